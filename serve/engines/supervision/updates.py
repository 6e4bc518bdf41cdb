"""Rolling updates: the new engine of an assistant is ready before the old one drains.

Where both do not fit at once, the old one drains first. Where the new one cannot be started, the
old one serves on and says why.
"""

from __future__ import annotations

import asyncio

from serve.engines.supervision.replica import Replica
from serve.engines.supervision.replicas import Replicas
from serve.engines.version import Version
from serve.state import State

LONG = 3600.0


class Updates:
    """At most one update of an assistant at a time; one that is asked for meanwhile follows."""

    def __init__(self, replicas: Replicas, version: Version) -> None:
        self._replicas = replicas
        self._version = version
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._due: set[str] = set()

    def request(self, name: str) -> None:
        """Have the engine of an assistant replaced by one of what is there now."""
        self._due.add(name)
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(self._until_done(name))

    async def stop(self) -> None:
        """Give up what is under way; its engines leave with all others."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_done(self, name: str) -> None:
        try:
            while name in self._due:
                self._due.discard(name)
                await self._update(name)
        finally:
            # At once, and not when the task is known to be done: what is asked for in between
            # would be left to a task that looks no more.
            del self._tasks[name]

    async def _update(self, name: str) -> None:
        old = self._replicas.current(name)
        if old is None:
            return
        if old.ready_since is None or old.leaving:
            old.hurry()  # its next start is of what is there then
        else:
            await self._replace(old)

    async def _replace(self, old: Replica) -> None:
        new = self._replicas.second(old.assistant)
        state = await self._beside(new)
        if state is State.ready and self._replicas.current(new.assistant.name) is old:
            self._replicas.promote(new)
            await self._replicas.dismiss(old, None)
            return
        why = new.status.reason
        await self._replicas.dismiss(new, None)
        if state is State.stopped:
            old.go(f"'{old.assistant.name}' is updated; old and new do not fit at once.")
            old.ask()
        elif state is State.failed:
            old.note(f"Its update failed, and the engine before it serves on: {why}")

    async def _beside(self, new: Replica) -> State:
        """Start it where there is room for both; returns what became of it."""
        new.start()
        while new.status.state is State.starting:
            await self._version.other_than(self._version.number, LONG)
        return new.status.state
