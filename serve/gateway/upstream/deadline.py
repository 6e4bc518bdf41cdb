"""A deadline that is cheap to move.

Timers are expensive: a request needs several, moves one of them for every token, and hardly any
ever expires. So there is one timer, which checks when it fires whether the deadline was moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

NEVER = float("inf")


class Deadline:
    """Calls `expire` at the moment it was last set to."""

    __slots__ = ("_expire", "_loop", "_timer", "_timer_at", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self.at = NEVER
        """The moment; to postpone it, and only for that, assigning it here is enough."""
        self._timer_at = NEVER
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Expire at this moment of the loop's clock and at no other; `NEVER` for not at all."""
        self.at = at
        if at < self._timer_at:
            self._start(at)

    def stop(self) -> None:
        """For good: no reference to the callback is kept by the loop."""
        self.at = NEVER
        if self._timer is not None:
            self._timer.cancel()

    def _start(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer_at, self._timer = NEVER, None
        if self.at > self._loop.time():
            if self.at < NEVER:
                self._start(self.at)
            return
        self.at = NEVER
        self._expire()
