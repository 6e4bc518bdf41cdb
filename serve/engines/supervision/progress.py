"""Whether an engine in use still gets on with its work. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an engine was when it was last seen to have moved."""

    at: Hashable | None = None
    """None: it had nothing to do, or does not say."""
    since: float = 0.0

    def seen(self, at: Hashable | None, now: float) -> Progress:
        """It was asked again."""
        return self if at is not None and at == self.at else Progress(at, now)

    def stands(self, now: float, longest: float) -> bool:
        """Whether it has had work for so long and done nothing of it."""
        return self.at is not None and now - self.since > longest
