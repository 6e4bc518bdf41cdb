"""The replicas of every assistant and their load: the gateway's only mutable state.

It is told what to hold, by the declaration (`upstreams`) or by the engine host; it asks nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from assistants import House
from serve.gateway.order.kind import UNKNOWN, Kind
from serve.gateway.upstream.breaker import Breaker
from serve.state import State

MOST_ABLE_FIRST = (State.ready, State.starting, State.draining, State.failed, State.stopped)


@dataclass(eq=False, slots=True)
class Replica:
    """One running engine of an assistant, as far as the gateway knows."""

    url: str
    state: State = State.ready
    reason: str | None = None
    in_flight: int = 0
    asked: int = 0
    unanswered: int = 0
    """Requests in a row that ended, for whatever reason, before it had begun to answer."""
    breaker: Breaker = field(default_factory=Breaker)
    engine: str | None = None
    """Which kind of engine it is, where the engine host has said so."""
    seen: str | None = None
    """Which kind its last answer looked like, where nobody has."""
    id: str = ""
    """What the engine host calls it."""
    used: float | None = None
    """When a request was last given to it or taken from it, by the loop's clock."""

    @property
    def ready(self) -> bool:
        return self.state is State.ready


@dataclass(frozen=True, slots=True)
class Listed:
    """One replica in the list that the engine host gives."""

    assistant: str
    url: str
    state: State
    reason: str | None
    engine: str | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the engine host is told, so that it stops no engine that is needed."""

    busy: Mapping[str, int]
    """Assistant → requests that its engines answer, and that wait for one to be ready."""
    idle: Mapping[str, float]
    """Assistant → seconds since it was last used, where it ever was."""
    in_flight: Mapping[str, int]
    """Replica → requests it answers."""
    leaving: bool
    """Whether a replica that is draining still answers any."""


class Replicas:
    """Assistant → its replicas, and a way to wait until something about them changes."""

    def __init__(self, house: House) -> None:
        self._static: dict[str, list[Replica]] = {}
        self._by_assistant: dict[str, list[Replica]] = {}
        self._listed: tuple[Listed, ...] = ()
        self._waiting: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self.reload(house)

    def reload(self, house: House) -> None:
        """Hold the replicas of another house; one that stays keeps its count of requests."""
        known = {(name, r.url): r for name, held in self._static.items() for r in held}
        self._static = {
            assistant.name: [
                known.get((assistant.name, url)) or Replica(url) for url in map(_base, urls)
            ]
            for assistant in house
            if (urls := assistant.upstreams)
        }
        self._by_assistant = {name: list(self._by_assistant.get(name, ())) for name in house.names}
        self.take_over(self._listed)

    def of(self, assistant: str) -> Sequence[Replica]:
        return self._by_assistant.get(assistant, ())

    def state(self, assistant: str) -> State:
        """The state of the assistant as a whole: that of its most able replica."""
        states = {replica.state for replica in self.of(assistant)}
        return next((state for state in MOST_ABLE_FIRST if state in states), State.stopped)

    def reason(self, assistant: str) -> str | None:
        """What the engine host said about why it is so."""
        return next((r.reason for r in self.of(assistant) if r.reason), None)

    def kind(self, assistant: str) -> Kind:
        """Which kind of engine it has; the engine host has one kind for all its replicas."""
        seen = None
        for replica in self.of(assistant):
            if replica.engine:
                return Kind(replica.engine)
            seen = seen or replica.seen
        return Kind(seen=seen) if seen else UNKNOWN

    def take_over(self, listed: Iterable[Listed]) -> None:
        """Hold what the engine host lists; a replica that stays keeps its count of requests."""
        self._listed = tuple(listed)
        found: dict[str, list[Replica]] = {name: [] for name in self._by_assistant}
        found.update(self._static)
        for entry in self._listed:
            if entry.assistant not in found or entry.assistant in self._static:
                continue  # the host serves another house, or one that is elsewhere by declaration
            known = self._by_assistant[entry.assistant]
            replica = next((r for r in known if r.url == entry.url), None) or Replica(entry.url)
            if entry.state is State.ready and not replica.ready:
                replica.breaker = Breaker()  # it was started anew
            replica.state, replica.reason = entry.state, entry.reason
            replica.engine, replica.id = entry.engine, entry.id
            found[entry.assistant].append(replica)
        self._by_assistant = found
        self.wake()

    def wake(self) -> None:
        """Have everybody who waits for a change look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    @contextlib.contextmanager
    def waited_for(self, assistant: str) -> Iterator[None]:
        """While in it, a request waits for the assistant's engine to be ready."""
        self._waiting[assistant] += 1
        try:
            yield
        finally:
            self._waiting[assistant] -= 1

    def usage(self, now: float) -> Usage:
        """What the replicas of the engine host are used for."""
        listed = {n: held for n, held in self._by_assistant.items() if n not in self._static}
        held = [replica for replicas in listed.values() for replica in replicas]
        busy = {
            name: self._waiting[name] + sum(replica.in_flight for replica in replicas)
            for name, replicas in listed.items()
        }
        idle = {
            name: max(0.0, now - max(used))
            for name, replicas in listed.items()
            if (used := [replica.used for replica in replicas if replica.used is not None])
        }
        return Usage(
            busy={name: count for name, count in busy.items() if count},
            idle=idle,
            in_flight={r.id: r.in_flight for r in held if r.in_flight and r.id},
            leaving=any(r.in_flight and r.state is State.draining for r in held),
        )

    @property
    def change(self) -> asyncio.Event:
        """Set as soon as the engine host has listed something anew."""
        return self._changed


def _base(url: str) -> str:
    """The URL that paths are put behind; people also give the one their clients use."""
    return url.rstrip("/").removesuffix("/v1")
