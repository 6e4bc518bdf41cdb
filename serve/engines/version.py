"""The version of what the host tells: another with every change, and awaited by whoever follows."""

from __future__ import annotations

import asyncio
import contextlib


class Version:
    """Counts changes, and wakes those who wait for the next."""

    def __init__(self) -> None:
        self.number = 1
        self._changed = asyncio.Event()
        self._closed = False

    def bump(self) -> int:
        """Something changed; returns the version that tells of it."""
        self.number += 1
        self._changed.set()
        self._changed = asyncio.Event()
        return self.number

    def close(self) -> None:
        """Nobody waits any more."""
        self._closed = True
        self.bump()

    @property
    def closed(self) -> bool:
        return self._closed

    async def other_than(self, version: int, wait: float) -> None:
        """Return when the version is another one, or after `wait` seconds.

        Another, not a later one: a host that was started anew counts from the beginning.
        """
        if version != self.number or self._closed:
            return
        # Not wait_for: Python 3.11's forgets that it is cancelled where the event comes with it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._changed.wait()
