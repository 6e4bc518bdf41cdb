"""Rolling updates: the new engine of an assistant is ready before the old one drains.

Where both do not fit at once, the old one drains first. Where the new one cannot be started, the
old one serves on and says why.
"""

from __future__ import annotations

import asyncio

from serve.engines.board import Board
from serve.engines.replica import Replica
from serve.engines.replicas import Replicas
from serve.state import State

LONG = 3600.0


class Updates:
    """At most one update of an assistant at a time; one that is asked for meanwhile follows."""

    def __init__(self, replicas: Replicas, board: Board) -> None:
        self._replicas = replicas
        self._board = board
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._due: set[str] = set()

    def request(self, name: str) -> None:
        """Have the engine of an assistant replaced by one of what is there now."""
        self._due.add(name)
        if name not in self._tasks:
            task = self._tasks[name] = asyncio.create_task(self._until_done(name))
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def stop(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_done(self, name: str) -> None:
        while name in self._due:
            self._due.discard(name)
            old = self._replicas.current(name)
            if old is None:
                continue
            if old.ready_since is None or old.leaving:
                old.hurry()  # its next start is of what is there then
            else:
                await self._replace(old)

    async def _replace(self, old: Replica) -> None:
        new = self._replicas.second(old.assistant)
        try:
            state = await self._beside(new)
        except asyncio.CancelledError:
            new.go(patience=0)
            raise
        if state is State.ready and self._replicas.current(new.assistant.name) is old:
            self._replicas.promote(new)
            await self._replicas.dismiss(old, None)
            return
        why = new.course.reason
        await self._replicas.dismiss(new, None)
        if state is State.stopped:
            old.go(f"'{old.assistant.name}' is updated; old and new do not fit at once.")
            old.ask()
        elif state is State.failed:
            old.note(f"Its update failed, and the engine before it serves on: {why}")

    async def _beside(self, new: Replica) -> State:
        """Start it where there is room for both; returns what became of it."""
        new.start()
        while new.course.state is State.starting:
            await self._board.other_than(self._board.version, LONG)
        return new.course.state
