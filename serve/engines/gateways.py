"""What gateways say of themselves as they follow: what they have in flight, and what was used when.

A gateway's poll names the version of the list it acts upon, so what it counts it has counted after
it knew. That is how the host can tell that nobody sends to an engine any more. Nothing here looks
at a clock; times are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

FORGOTTEN_SECONDS = 40.0
"""A gateway that is silent for so long is gone: it polls at least every 25 s. One that is killed
is lost at once, by its connection; this is for one whose machine or network is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one gateway said at one time."""

    gateway: str
    knows: int | None = None
    """The version of the list it acts upon; None: said in passing, with a start."""
    busy: Mapping[str, int] = field(default_factory=dict)
    """Requests in flight and waiting, by assistant."""
    idle: Mapping[str, float] = field(default_factory=dict)
    """Seconds since each assistant was last used."""
    in_flight: Mapping[str, int] | None = None
    """Requests handed to an engine and not finished, by replica; None: it does not count so."""


class Gateways:
    """All that are there, by their last words."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Told, float]] = {}
        self._used: dict[str, float] = {}

    def hear(self, told: Told, now: float) -> None:
        for name, seconds in told.idle.items():
            self._used[name] = max(self._used.get(name, 0.0), now - max(0.0, seconds))
        before = self._last.get(told.gateway)
        if told.knows is None:
            told = replace(told, knows=before[0].knows if before else 0)
        self._last[told.gateway] = told, now

    def still_there(self, gateway: str, now: float) -> None:
        """It waited for an answer until now."""
        if gateway in self._last:
            self._last[gateway] = self._last[gateway][0], now

    def lose(self, told: Told) -> None:
        """It went away while it waited for an answer to this; what it says anew stands."""
        last = self._last.get(told.gateway)
        if last is not None and last[0] is told:
            del self._last[told.gateway]

    def all_know(self, version: int, now: float) -> bool:
        """Whether each acts upon this version or a later one."""
        return all((told.knows or 0) >= version for told in self._live(now))

    def busy(self, assistant: str, now: float) -> int:
        """Requests in flight and waiting for an assistant."""
        return sum(told.busy.get(assistant, 0) for told in self._live(now))

    def in_flight(self, replica: str, assistant: str, now: float) -> int:
        """Requests handed to one replica and not finished."""
        return sum(
            (told.busy if told.in_flight is None else told.in_flight).get(
                assistant if told.in_flight is None else replica, 0
            )
            for told in self._live(now)
        )

    def idle(self, assistant: str, now: float) -> float | None:
        """Seconds since it was last used; None: nobody ever said."""
        if self.busy(assistant, now):
            return 0.0
        return now - self._used[assistant] if assistant in self._used else None

    def _live(self, now: float) -> list[Told]:
        self._last = {
            name: (told, at)
            for name, (told, at) in self._last.items()
            if now - at < FORGOTTEN_SECONDS
        }
        return [told for told, _ in self._last.values()]
