"""The replicas of every assistant and what each is busy with: the gateway's only mutable state.

It is told what to hold, by the declaration (`upstreams`) or by the engine host; it asks nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from assistants import House


class State(StrEnum):
    """In which state an engine is, in the engine host's words."""

    stopped = "stopped"
    starting = "starting"
    ready = "ready"
    failed = "failed"
    draining = "draining"


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
    rests_until: float = 0.0

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


class Replicas:
    """Assistant → its replicas, and a way to wait until something about them changes."""

    def __init__(self, house: House) -> None:
        self._static = {
            assistant.name: [Replica(url.rstrip("/").removesuffix("/v1")) for url in urls]
            for assistant in house
            if (urls := assistant.upstreams)
        }
        self._by_assistant: dict[str, list[Replica]] = {name: [] for name in house.names}
        self._by_assistant.update(self._static)
        self._changed = asyncio.Event()

    def of(self, assistant: str) -> Sequence[Replica]:
        return self._by_assistant[assistant]

    def state(self, assistant: str) -> State:
        """The state of the assistant as a whole: that of its most able replica."""
        states = {replica.state for replica in self._by_assistant[assistant]}
        return next((state for state in MOST_ABLE_FIRST if state in states), State.stopped)

    def reason(self, assistant: str) -> str | None:
        """What the engine host said about why it is so."""
        return next((r.reason for r in self._by_assistant[assistant] if r.reason), None)

    def take_over(self, listed: Iterable[Listed]) -> None:
        """Hold what the engine host lists; a replica that stays keeps its count of requests."""
        found: dict[str, list[Replica]] = {name: [] for name in self._by_assistant}
        found.update(self._static)
        for entry in listed:
            if entry.assistant not in found or entry.assistant in self._static:
                continue  # the host serves another house, or one that is elsewhere by declaration
            known = self._by_assistant[entry.assistant]
            replica = next((r for r in known if r.url == entry.url), None) or Replica(entry.url)
            if entry.state is State.ready and not replica.ready:
                replica.rests_until = 0.0  # it was started anew
            replica.state, replica.reason = entry.state, entry.reason
            found[entry.assistant].append(replica)
        self._by_assistant = found
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        """Return as soon as the engine host has listed something anew."""
        await self._changed.wait()
