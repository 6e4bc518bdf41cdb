"""Which replicas there are: one for each assistant, two during an update, and those that leave."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

from assistants.schema import Assistant
from serve.engines.supervision.context import HostContext
from serve.engines.supervision.replica import Replica
from serve.log_reader import Source


class Replicas:
    """Every replica runs as a task of its own, until it is dismissed."""

    def __init__(self, context: HostContext) -> None:
        self._context = context
        self._current: dict[str, Replica] = {}
        self._others: list[Replica] = []
        """Those about to take somebody's place, and those that leave for good."""
        self._tasks: dict[Replica, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None

    def __iter__(self) -> Iterator[Replica]:
        yield from (*self._current.values(), *self._others)

    @property
    def names(self) -> list[str]:
        return list(self._current)

    def current(self, name: str) -> Replica | None:
        return self._current.get(name)

    def of(self, name: str) -> list[Replica]:
        return [replica for replica in self if replica.assistant.name == name]

    def add(self, assistant: Assistant) -> Replica:
        """The engine of an assistant that has none."""
        replica = self._current[assistant.name] = self._new(assistant)
        self._set_going(replica)
        self._context.version.bump()
        return replica

    def second(self, assistant: Assistant) -> Replica:
        """Another engine of an assistant, beside the one it has."""
        replica = self._new(assistant)
        replica.evicts = False  # not even if it is pinned: the one before serves on
        self._others.append(replica)
        self._set_going(replica)
        return replica

    def logs(self, name: str) -> Iterator[Source]:
        """What the engines of an assistant have written, those that are gone included."""
        there = {replica.place: replica for replica in self.of(name)}
        for place in itertools.count(1):
            log = self._context.site.log(name, place)
            replica = there.get(place)
            if replica is not None:
                yield Source(f"{replica.id}, {replica.status.state.value}", log)
            elif log.path.exists():
                yield Source(f"an earlier engine of '{name}'", log)
            else:
                return

    def promote(self, second: Replica) -> None:
        """It takes the place of the one before, which leaves."""
        name = second.assistant.name
        self._others.remove(second)
        self._others.append(self._current[name])
        self._current[name] = second

    async def dismiss(self, replica: Replica, reason: str | None) -> None:
        """Have it leave, for good; others may take its place at once."""
        name = replica.assistant.name
        if self._current.get(name) is replica:
            del self._current[name]
            self._others.append(replica)
        replica.go(reason)
        await replica.gone()
        self._others.remove(replica)
        await _ended(self._tasks.pop(replica))
        self._context.version.bump()

    async def run(self) -> None:
        """Keep all of them going until cancelled; then each finishes its requests and ends.

        Raises:
            Exception: whatever is wrong with a replica itself, never with its engine.
        """
        self._failed = asyncio.get_running_loop().create_future()
        for replica in self:
            self._set_going(replica)
        try:
            await self._failed
        finally:
            for replica in self:
                replica.go(patience=self._context.policy.drain)
            await asyncio.gather(*(replica.gone() for replica in self))
            for task in self._tasks.values():
                await _ended(task)

    def _new(self, assistant: Assistant) -> Replica:
        taken = {replica.place for replica in self.of(assistant.name)}
        place = next(place for place in itertools.count(1) if place not in taken)
        return Replica(assistant, self._context, place=place)

    def _set_going(self, replica: Replica) -> None:
        if self._failed is not None:
            task = self._tasks[replica] = asyncio.create_task(replica.run())
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        problem = None if task.cancelled() else task.exception()
        if problem is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(problem)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
