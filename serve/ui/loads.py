"""How long engines take to load, learned by watching, so that waiting has an end in sight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LOADING = frozenset({"starting", "stopped"})
"""In these states an engine that is asked is on its way."""


@dataclass(frozen=True, slots=True)
class Load:
    """An engine on its way: for how long already, and how long it took the last time."""

    seconds: float
    usual: float | None = None

    @property
    def share(self) -> float | None:
        """How much of it is done, by the last time; never all of it, for nobody knows."""
        return min(self.seconds / self.usual, 0.95) if self.usual else None


class Loads:
    """The engines that are loading, and how long the last load of each took."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._took: dict[str, float] = {}

    def see(self, states: Mapping[str, str], now: float) -> None:
        """Take note of the states at one time."""
        for name, state in states.items():
            if state == "starting":
                self._since.setdefault(name, now)
                continue
            began = self._since.pop(name, None)
            if state == "ready" and began is not None:
                self._took[name] = now - began

    def of(self, name: str, seconds: float) -> Load:
        """A load that has been waited for so long."""
        return Load(seconds, self._took.get(name))
