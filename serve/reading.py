"""Parses a gateway's /metrics into one reading of its assistants; nothing else reads that text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

FIRST_TOKEN = "hanlin_time_to_first_token_seconds"

FIELDS = {
    "hanlin_tokens_under_way": "under_way",
    f"{FIRST_TOKEN}_count": "first_tokens",
    f"{FIRST_TOKEN}_sum": "first_token_seconds",
    "hanlin_rejections_total": "refused",
    "hanlin_in_flight": "in_flight",
    "hanlin_queue_length": "queue",
    "hanlin_breaker_open": "cut_off",
}
"""Metric → where it is counted; those of several surfaces or replicas add up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What there is of one assistant: five numbers that only grow, and how it stands now."""

    tokens_out: int = 0
    """Of answers that have ended."""
    first_tokens: int = 0
    """Streams that had one and have ended, and …"""
    first_token_seconds: float = 0.0
    """… how long all of them waited for it."""
    failed: int = 0
    refused: int = 0
    under_way: int = 0
    """Tokens of streams that have not ended."""
    in_flight: int = 0
    queue: int = 0
    cut_off: int = 0
    """Replicas that failed several times in a row and get no requests for a while."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    """How many are in which state."""

    @property
    def tokens(self) -> int:
        """All there are by now, those of streams as far as they have come."""
        return self.tokens_out + self.under_way


NOTHING = Counted()


@dataclass(frozen=True, slots=True)
class Reading:
    """All of it, at one time by a clock of whoever reads."""

    at: float
    counted: Mapping[str, Counted]
    anew: bool = False
    """Whether the gateway was started after the reading before, and so counts from nothing."""

    def of(self, assistant: str) -> Counted:
        return self.counted.get(assistant, NOTHING)


def read(exposition: str, at: float) -> Reading:
    """The numbers in the text; what is not of assistants is passed over.

    Raises:
        ValueError: it is no such text.
    """
    numbers: dict[str, dict[str, float]] = {}
    replicas: dict[str, dict[str, int]] = {}
    try:
        for family in text_string_to_metric_families(exposition):
            for name, labels, value, *_ in family.samples:
                assistant = labels.get("assistant", "")
                if name == "hanlin_engine_state" and value:
                    replicas.setdefault(assistant, {})[labels.get("state", "")] = int(value)
                elif place := _place(name, labels):
                    of_one = numbers.setdefault(assistant, {})
                    of_one[place] = of_one.get(place, 0) + value
        return Reading(
            at, {n: _counted(of_one, replicas.get(n, {})) for n, of_one in numbers.items()}
        )
    except (IndexError, OverflowError) as error:  # the library's, and a number that is infinite
        raise ValueError(f"no metrics: {error}") from error


def _place(name: str, labels: Mapping[str, str]) -> str | None:
    match name, labels:
        case "hanlin_tokens_total", {"direction": "out"}:
            return "tokens_out"
        case "hanlin_requests_total", {"status": "5xx"}:
            return "failed"
        case _:
            return FIELDS.get(name)


def _counted(numbers: Mapping[str, float], replicas: Mapping[str, int]) -> Counted:
    """Everything Prometheus is told is a float; only the seconds really are."""
    seconds = numbers.get("first_token_seconds", 0.0)
    whole = {name: int(value) for name, value in numbers.items() if name != "first_token_seconds"}
    return Counted(first_token_seconds=seconds, replicas=replicas, **whole)
