"""The retry budget: enough for the death of a replica, too little for a retry storm.

An engine that fails because it has too much to do must not get every request two or three times.
So a retry costs a token; each request brings a part of one, and time brings some where requests
are few. The reserve is as large as what may run at once, so that all of it can move elsewhere.
"""

from __future__ import annotations

PART = 0.2
PER_SECOND = 10.0
LEAST_RESERVE = 10


class Budget:
    """The retries of one assistant."""

    __slots__ = ("_at", "_left", "_reserve")

    def __init__(self, reserve: int, now: float) -> None:
        self._reserve = max(reserve, LEAST_RESERVE)
        self._left = float(self._reserve)
        self._at = now

    def earn(self) -> None:
        """A request came in."""
        if self._left < self._reserve:
            self._left += PART

    def spend(self, now: float) -> bool:
        """Whether a request may be tried once more."""
        self._left = min(self._left + (now - self._at) * PER_SECOND, self._reserve)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
