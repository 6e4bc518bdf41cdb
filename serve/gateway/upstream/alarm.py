"""A moment at which something is given up, that may be moved for next to nothing.

Timers are dear: a request needs several, moves one of them for every token, and nearly none ever
goes off. So there is one timer that looks, when it goes off, whether the moment was moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

NEVER = float("inf")


class Alarm:
    """Calls `ring` at the moment it was last set to."""

    __slots__ = ("_goes_off", "_loop", "_ring", "_timer", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self.at = NEVER
        """The moment; to put it off, and only for that, setting it here is enough."""
        self._goes_off = NEVER
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Ring at this moment of the loop's clock and at no other; `NEVER` for not at all."""
        self.at = at
        if at < self._goes_off:
            self._start(at)

    def stop(self) -> None:
        """For good: nothing holds on to what is rung."""
        self.at = NEVER
        if self._timer is not None:
            self._timer.cancel()

    def _start(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._goes_off = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._goes_off, self._timer = NEVER, None
        if self.at > self._loop.time():
            if self.at < NEVER:
                self._start(self.at)
            return
        self.at = NEVER
        self._ring()
