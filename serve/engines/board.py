"""The version of what the host tells; turned at every change, and awaited by whoever follows."""

from __future__ import annotations

import asyncio
import contextlib


class Board:
    """Counts changes, and wakes those who wait for the next."""

    def __init__(self) -> None:
        self.version = 1
        self._turned = asyncio.Event()
        self._closed = False

    def turn(self) -> int:
        """Something changed; returns the version that tells of it."""
        self.version += 1
        self._turned.set()
        self._turned = asyncio.Event()
        return self.version

    def close(self) -> None:
        """Nobody waits any more."""
        self._closed = True
        self.turn()

    @property
    def closed(self) -> bool:
        return self._closed

    async def other_than(self, version: int, wait: float) -> None:
        """Return when the version is another one, or after `wait` seconds.

        Another, not a later one: a host that was started anew counts from the beginning.
        """
        if version != self.version or self._closed:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._turned.wait(), wait)
