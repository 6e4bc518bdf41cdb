"""The child processes of `hanlin up`: started one by one, stopped in order, none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from assistants.errors import HanlinError
from serve.process import Command, Log, Process, ending

GRACE_SECONDS = 20.0
"""Engines drain within their host's own patience; longer than that nobody waits at a prompt."""
LAST_LINES = 8


class PartEndedError(HanlinError):
    """A part of the house ended though nobody asked it to."""

    def __init__(self, name: str, code: int, process: Process) -> None:
        lines = [f"  {line}" for line in process.tail(LAST_LINES)]
        text = f"The {name} {ending(code)}; its log is {process.log.path}"
        super().__init__("\n".join([f"{text}, and ends so:" if lines else f"{text}.", *lines]))


class Family:
    """What `up` started, in the order in which it is to be stopped."""

    def __init__(self, logs: Path, order: tuple[str, ...], env: Mapping[str, str]) -> None:
        self._env = env
        self._logs = logs
        self._order = order
        self._parts: dict[str, Process] = {}
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watches: set[asyncio.Task[None]] = set()

    async def start(self, name: str, *arguments: str) -> None:
        """Start one part, a `hanlin` command of its own."""
        plain = Command.python("hanlin", *arguments)
        command = Command(plain.argv, {**plain.env, **self._env})
        process = await Process.start(command, Log(self._logs / f"{name}.log"))
        self._parts[name] = process
        self._watches.add(asyncio.create_task(self._watch(name, process)))

    async def first_ending(self) -> None:
        """Raises once a part ends by itself.

        Raises:
            PartEndedError: always, in the end.
        """
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Ask each part to end, one after the other, and wait for it."""
        for watch in self._watches:
            watch.cancel()
        for name in self._order:
            if name in self._parts:
                await self._parts[name].stop(GRACE_SECONDS)

    def kill(self) -> None:
        """End all of it now."""
        for process in self._parts.values():
            process.kill_session()

    async def _watch(self, name: str, process: Process) -> None:
        code = await process.wait()
        if not self._ended.done():
            self._ended.set_exception(PartEndedError(name, code, process))
