"""The engines of one host: which there are, how they stand, and who waits for news of them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistants.errors import UnknownAssistantError
from assistants.load import House
from serve.engines.course import Policy
from serve.engines.engine import Engine
from serve.engines.replica import Place, Replica


class Board:
    """The version of what is known; turned at every change, and awaited by whoever follows."""

    def __init__(self) -> None:
        self.version = 1
        self._turned = asyncio.Event()
        self._closed = False

    def turn(self) -> None:
        self.version += 1
        self._turned.set()
        self._turned = asyncio.Event()

    def close(self) -> None:
        """Nobody waits any more."""
        self._closed = True
        self.turn()

    async def other_than(self, version: int, wait: float) -> None:
        """Return when the version is another one, or after `wait` seconds.

        Another, not a later one: a host that was started anew counts from the beginning.
        """
        if version != self.version or self._closed:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._turned.wait(), wait)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where workspaces are found and logs are left."""

    workspaces: Path
    logs: Path

    def place(self, assistant: str, engine: str) -> Place:
        return Place(self.workspaces / assistant / engine, self.logs / f"engine-{assistant}.log")


class Host:
    """Owns one engine for each assistant that is not served elsewhere."""

    def __init__(self, house: House, engine: Engine, folders: Folders, policy: Policy) -> None:
        self.board = Board()
        self._house = house
        self._replicas = {
            assistant.name: Replica(
                assistant,
                engine,
                folders.place(assistant.name, engine.name),
                policy=policy,
                changed=self.board.turn,
            )
            for assistant in house
            if not assistant.upstreams
        }

    def report(self) -> dict[str, Any]:
        replicas = [replica.report() for replica in self._replicas.values()]
        return {"version": self.board.version, "replicas": replicas}

    def ask(self, name: str) -> None:
        """Have the engine of an assistant started.

        Raises:
            UnknownAssistantError: there is none of that name that this host serves.
        """
        found = self._house.get(name).name
        if found not in self._replicas:
            raise UnknownAssistantError(name, self._replicas)
        self._replicas[found].ask()

    async def run(self) -> None:
        """Keep the engines up until cancelled; then drain and stop them."""
        try:
            async with asyncio.TaskGroup() as group:
                for replica in self._replicas.values():
                    group.create_task(replica.run())
                await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.gather(*(replica.stop() for replica in self._replicas.values()))
            self.board.close()
