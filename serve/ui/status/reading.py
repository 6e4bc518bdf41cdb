"""What the gateway's /metrics says at one time. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families


@dataclass(slots=True)
class Count:
    """What has been counted of one assistant since its gateway began."""

    tokens: float = 0
    answers: float = 0
    """Streams that had a first token, and …"""
    first_seconds: float = 0
    """… how long all of them waited for it."""
    failed: float = 0
    refused: float = 0


@dataclass(slots=True)
class Standing:
    """How one assistant stands now."""

    in_flight: int = 0
    queue: int = 0
    replicas: dict[str, int] = field(default_factory=dict)
    """How many are in which state."""
    cut_off: int = 0
    """Replicas that failed several times in a row and are left alone."""


@dataclass(slots=True)
class Reading:
    """All of it, at one time (seconds since 1970)."""

    at: float
    counts: dict[str, Count] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)

    def count(self, assistant: str) -> Count:
        return self.counts.setdefault(assistant, Count())

    def standing(self, assistant: str) -> Standing:
        return self.standings.setdefault(assistant, Standing())


def read(text: str, at: float) -> Reading:
    """The numbers in an exposition; what is not of assistants is passed over.

    Raises:
        ValueError: it is no exposition.
    """
    reading = Reading(at)
    for name, labels, value in _samples(text):
        assistant = labels.get("assistant")
        if assistant is None:
            continue
        _count(reading, assistant, name, labels, value)
        _stand(reading, assistant, name, labels, int(value))
    return reading


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _count(
    reading: Reading, assistant: str, name: str, labels: dict[str, str], value: float
) -> None:
    match name, labels:
        case "hanlin_tokens_total", {"direction": "out"}:
            reading.count(assistant).tokens += value
        case "hanlin_time_to_first_token_seconds_count", _:
            reading.count(assistant).answers += value
        case "hanlin_time_to_first_token_seconds_sum", _:
            reading.count(assistant).first_seconds += value
        case "hanlin_requests_total", {"status": "5xx"}:
            reading.count(assistant).failed += value
        case "hanlin_rejections_total", _:
            reading.count(assistant).refused += value


def _stand(reading: Reading, assistant: str, name: str, labels: dict[str, str], value: int) -> None:
    match name:
        case "hanlin_in_flight":
            reading.standing(assistant).in_flight = value
        case "hanlin_queue_length":
            reading.standing(assistant).queue = value
        case "hanlin_engine_state":
            reading.standing(assistant).replicas[labels["state"]] = value
        case "hanlin_breaker_open":
            reading.standing(assistant).cut_off += value
