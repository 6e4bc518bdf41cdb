"""From counts that only grow to how fast things go. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from serve.ui.status.reading import Count, Reading

WINDOW_SECONDS = 15.0
"""What is counted when an answer ends is spread over so long."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How one assistant did in the window before one time."""

    at: float
    tokens: float
    """A second."""
    first: float | None
    """Seconds to the first token, on average; None where nothing was answered."""
    failed: float
    """A minute."""
    refused: float


def paces(readings: Sequence[Reading], assistant: str) -> list[Pace]:
    """How it did at each reading but the first."""
    made, start = [], 0
    for index in range(1, len(readings)):
        now = readings[index]
        while start < index - 1 and now.at - readings[start].at > WINDOW_SECONDS:
            start += 1
        steps = readings[start : index + 1]
        counts = [reading.counts.get(assistant, Count()) for reading in steps]
        made.append(_pace(now.at, now.at - steps[0].at, _growth(counts)))
    return made


def _pace(at: float, seconds: float, grown: Count) -> Pace:
    seconds = max(seconds, 1e-3)
    return Pace(
        at=at,
        tokens=grown.tokens / seconds,
        first=grown.first_seconds / grown.answers if grown.answers else None,
        failed=grown.failed / seconds * 60,
        refused=grown.refused / seconds * 60,
    )


def total(readings: Sequence[Reading], assistant: str) -> Count:
    """How much was counted over all of these readings."""
    return _growth([reading.counts.get(assistant, Count()) for reading in readings])


def _growth(counts: Sequence[Count]) -> Count:
    grown = Count()
    for before, after in pairwise(counts):
        # A gateway that began anew counts from nothing: then all it has is new.
        anew = after.tokens < before.tokens or after.answers < before.answers
        base = Count() if anew else before
        grown.tokens += after.tokens - base.tokens
        grown.answers += after.answers - base.answers
        grown.first_seconds += after.first_seconds - base.first_seconds
        grown.failed += max(after.failed - base.failed, 0)
        grown.refused += max(after.refused - base.refused, 0)
    return grown
