"""The circuit breaker of one replica.

A request that failed lets its replica rest for a moment. After several failures in a row it is
open: it rests for longer each time, and in between one request alone finds out whether it is well.
A replica that rests is asked after all others, never not at all; who asks is the router's business.
"""

from __future__ import annotations

OPENS_AFTER = 3
REST_SECONDS = 2.0
LONGEST_REST_SECONDS = 30.0
LONGEST_WISH_SECONDS = 60
"""What an engine may ask for with `Retry-After`; beyond it, it is asked again all the same."""


class Breaker:
    """One replica's failures in a row, and what follows from them."""

    __slots__ = ("_probing", "_rests_until", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self._rests_until = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        return self.failures >= OPENS_AFTER

    def rests(self, now: float) -> bool:
        """Whether all others are to be asked before it: it failed, or is being probed."""
        return self._rests_until > now or self._probing

    def asked(self) -> None:
        """A request goes there; where it is open, nobody follows before it is known how it went."""
        self._probing = self.open

    def answered(self, now: float, *, rest_seconds: float = 0) -> None:
        """The engine is well, even if it wants to be left alone for a while."""
        self.failures = 0
        self._probing = False
        self._rests_until = now + min(rest_seconds, LONGEST_WISH_SECONDS) if rest_seconds else 0.0

    def failed(self, now: float, *, rest_seconds: float = 0) -> None:
        """It did not answer; whoever asked before it opened tells nothing new."""
        self._probing = False
        if self.open and self._rests_until > now:
            return
        self.failures += 1
        rest = REST_SECONDS * 2 ** max(self.failures - OPENS_AFTER, 0)
        wish = min(rest_seconds, LONGEST_WISH_SECONDS)
        self._rests_until = now + max(min(rest, LONGEST_REST_SECONDS), wish)

    def unknown(self) -> None:
        """Nobody waited for the answer: somebody else may find out."""
        self._probing = False
