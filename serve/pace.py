"""Rates and latencies computed from two readings of growing counters. Pure functions.

Tokens are those of answers that have ended and of streams as far as they have come. A whole answer
counts when it has ended, a stream's wait for its first token when that has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from serve.reading import NOTHING, Counted, Reading


@dataclass(frozen=True, slots=True)
class Pace:
    """What came to be counted of one assistant in so many seconds before one time."""

    at: float
    seconds: float
    tokens: int
    first_tokens: int
    first_token_seconds: float
    failed: int
    refused: int

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def first_token(self) -> float | None:
        """How long streams waited for it, on average; None where none has ended."""
        return self.first_token_seconds / self.first_tokens if self.first_tokens else None

    @property
    def errors_per_minute(self) -> float:
        """What failed and what was refused."""
        return (self.failed + self.refused) * 60 / self.seconds


class Readings:
    """The readings of the last while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: list[Reading] = []

    @property
    def all(self) -> Sequence[Reading]:
        return tuple(self._kept)

    @property
    def last(self) -> Reading | None:
        return self._kept[-1] if self._kept else None

    @property
    def seconds(self) -> float | None:
        """From the first to the last."""
        return self._kept[-1].at - self._kept[0].at if len(self._kept) > 1 else None

    def take(self, reading: Reading) -> None:
        """Keep it, and of those before what is needed to tell of so many seconds."""
        last = self.last
        if last is not None and reading.at <= last.at:
            self.forget()  # the clock was set back
        elif last is not None:
            reading = replace(reading, anew=began_anew(last, reading))
        self._kept.append(reading)
        oldest = reading.at - self._seconds
        while len(self._kept) > 2 and self._kept[1].at <= oldest:
            self._kept.pop(0)

    def forget(self) -> None:
        self._kept.clear()


def pace(readings: Sequence[Reading], assistant: str) -> Pace | None:
    """How it did from the first of them to the last; one alone tells nothing."""
    if len(readings) < 2:
        return None
    totals = _totals(readings, assistant)
    return _between(readings[0], totals[0], readings[-1], totals[-1])


def paces(readings: Sequence[Reading], assistant: str, *, seconds: float) -> list[Pace]:
    """How it did in so many seconds before each reading; nothing where none was near enough."""
    totals, made, start = _totals(readings, assistant), [], 0
    for index, now in enumerate(readings):
        while now.at - readings[start].at > seconds:
            start += 1
        if start < index:
            made.append(_between(readings[start], totals[start], now, totals[index]))
    return made


class _Total(NamedTuple):
    """What has come to be counted since the first reading, whoever counted it."""

    tokens: int = 0
    first_tokens: int = 0
    first_token_seconds: float = 0.0
    failed: int = 0
    refused: int = 0


def _totals(readings: Sequence[Reading], assistant: str) -> list[_Total]:
    totals = [_Total()]
    for before, now in pairwise(readings):
        was, has = NOTHING if now.anew else before.of(assistant), now.of(assistant)
        total = totals[-1]
        totals.append(
            _Total(
                total.tokens + has.tokens - was.tokens,
                total.first_tokens + has.first_tokens - was.first_tokens,
                total.first_token_seconds + has.first_token_seconds - was.first_token_seconds,
                total.failed + has.failed - was.failed,
                total.refused + has.refused - was.refused,
            )
        )
    return totals


def _between(first: Reading, before: _Total, last: Reading, after: _Total) -> Pace:
    return Pace(
        at=last.at,
        seconds=last.at - first.at,
        # A stream may end with fewer tokens than were seen of it: its engine has the last word.
        tokens=max(after.tokens - before.tokens, 0),
        first_tokens=after.first_tokens - before.first_tokens,
        first_token_seconds=after.first_token_seconds - before.first_token_seconds,
        failed=after.failed - before.failed,
        refused=after.refused - before.refused,
    )


def began_anew(before: Reading, now: Reading) -> bool:
    """Whether the gateway was started in between; otherwise no count ever falls."""
    return any(
        less < more
        for name, was in before.counted.items()
        for less, more in zip(_growing(now.of(name)), _growing(was), strict=True)
    )


def _growing(counted: Counted) -> tuple[int, ...]:
    """Without the seconds: several processes add theirs up in any order, and rounding tells."""
    return counted.tokens_out, counted.first_tokens, counted.failed, counted.refused
