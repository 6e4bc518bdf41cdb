"""Chooses the replica for a request: a pure function, called anew for every try."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b

from serve.gateway.upstream.replicas import Replica


def choose(
    replicas: Sequence[Replica], *, avoid: Collection[Replica], now: float, affinity: bytes = b""
) -> Replica | None:
    """The ready replica with the least in flight, or None where none is left to ask.

    One that failed a moment ago comes after all others but is never out of the question: a
    request that only it could answer is better tried than refused. Between equals one whose
    clients left without an answer comes later: it may hang. Then a conversation goes where it was
    before, whose cache knows its beginning; without affinity it is the one asked less often, so
    that a quiet house uses all its replicas.
    """
    ready = [r for r in replicas if r.ready and r not in avoid]
    if len(ready) < 2:
        return ready[0] if ready else None
    burdens = [(r.breaker.rests(now), r.in_flight, r.unanswered) for r in ready]
    least = min(burdens)
    equals = [r for r, burden in zip(ready, burdens, strict=True) if burden == least]
    if len(equals) == 1:
        return equals[0]
    if affinity:
        return max(equals, key=lambda r: _draw(affinity, r.url))
    return min(equals, key=lambda r: r.asked)


def _draw(affinity: bytes, url: str) -> bytes:
    """Rendezvous hashing: each replica draws a lot for each conversation, the same in every
    gateway; one that comes or goes moves only the conversations that it wins or won."""
    return blake2b(url.encode(), key=affinity[:64], digest_size=8).digest()
