"""Which replica gets a request: a pure choice, made anew for every try."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from serve.gateway.replicas import Replica


def choose(
    replicas: Sequence[Replica], *, avoid: Collection[Replica], now: float
) -> Replica | None:
    """The ready replica with the least in flight, or None where none is left to ask.

    One that failed a moment ago comes after all others but is never out of the question: a
    request that only it could answer is better tried than refused. Between equals one whose
    clients left without an answer comes later: it may hang. Then the one that was asked less
    often gets the request, so that a quiet house uses all its replicas.
    """
    ready = [r for r in replicas if r.ready and r not in avoid]
    if len(ready) < 2:
        return ready[0] if ready else None
    return min(ready, key=lambda r: (r.rests_until > now, r.in_flight, r.unanswered, r.asked))
