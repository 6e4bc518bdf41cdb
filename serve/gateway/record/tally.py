"""Counters and histograms as plain numbers, because every request adds to them.

A counter of a metrics library takes a lock and checks its arguments for each of half a dozen
numbers; that cost three times what all of it costs here. They are given their names when somebody
asks (see metrics), and several processes of one gateway add theirs up.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from serve.gateway.errors import (
    BusyError,
    EngineBusyError,
    GatewayError,
    NotAllowedError,
    RateLimitedError,
    TooLargeError,
    UnauthorizedError,
)
from serve.gateway.record.visit import Visit

OVERHEAD = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0, 600.0)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

REASONS: tuple[tuple[type[GatewayError], str], ...] = (
    (EngineBusyError, "engine_busy"),
    (BusyError, "queue"),
    (UnauthorizedError, "key"),
    (NotAllowedError, "not_allowed"),
    (TooLargeError, "too_large"),
)


class Spread(msgspec.Struct):
    """A histogram; its last bucket has no bound."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float = 0.0

    @classmethod
    def over(cls, bounds: tuple[float, ...]) -> Spread:
        return cls(bounds, [0] * (len(bounds) + 1))

    def take(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: Spread) -> None:
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


def _spread(bounds: tuple[float, ...]) -> Spread:
    field: Spread = msgspec.field(default_factory=lambda: Spread.over(bounds))
    return field


class Tally(msgspec.Struct):
    """Counts of the requests for one assistant on one surface."""

    outcomes: dict[str, int] = {}
    rejections: dict[str, int] = {}
    seconds: Spread = _spread(SECONDS)
    overhead: Spread = _spread(OVERHEAD)
    first_token: Spread = _spread(SECONDS)
    """Counted when it came, unlike all the rest."""
    per_token: Spread = _spread(PER_TOKEN)
    tokens_in: int = 0
    tokens_out: int = 0
    retries: int = 0

    def take(self, visit: Visit) -> None:
        """Count a request that has ended."""
        _count(self.outcomes, visit.outcome)
        self.seconds.take(visit.seconds)
        if visit.trail.tries:
            self.overhead.take(visit.overhead)
            self.retries += visit.trail.tries - 1
        first, usage = visit.first_byte, visit.usage
        if usage is not None:
            self.tokens_in += usage.prompt
            self.tokens_out += usage.completion
            if first is not None and usage.completion > 1:
                self.per_token.take((visit.ended - first) / (usage.completion - 1))
        if visit.exchange.failure is not None:
            reason = _reason(visit.exchange.failure)
            if reason is not None:
                _count(self.rejections, reason)

    def add(self, other: Tally) -> None:
        """Add what another process has counted."""
        for mine, its in ((self.outcomes, other.outcomes), (self.rejections, other.rejections)):
            for name, count in its.items():
                _count(mine, name, count)
        self.seconds.add(other.seconds)
        self.overhead.add(other.overhead)
        self.first_token.add(other.first_token)
        self.per_token.add(other.per_token)
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.retries += other.retries


class Standing(msgspec.Struct):
    """The gauges of one assistant, as they are now."""

    in_flight: int
    queue: int
    states: dict[str, int]
    open_breakers: list[bool]
    under_way: int = 0

    def add(self, other: Standing) -> None:
        """Add another process's requests; of the engines both know the same."""
        self.in_flight += other.in_flight
        self.queue += other.queue
        self.under_way += other.under_way
        both = zip(self.open_breakers, other.open_breakers, strict=False)
        self.open_breakers = [mine or its for mine, its in both]


class Numbers(msgspec.Struct):
    """Everything one process has to tell: assistant → surface → tally, and how things stand."""

    tallies: dict[str, dict[str, Tally]] = {}
    standings: dict[str, Standing] = {}
    limits_away: int = 0

    def tally(self, assistant: str, surface: str) -> Tally:
        by_surface = self.tallies.get(assistant)
        if by_surface is None:
            by_surface = self.tallies[assistant] = {}
        found = by_surface.get(surface)
        if found is None:
            found = by_surface[surface] = Tally()
        return found

    def add(self, other: Numbers, *, alive: bool) -> None:
        """Add those of another process; one that has ended counts nothing, but what it counted."""
        for assistant, by_surface in other.tallies.items():
            for surface, its in by_surface.items():
                self.tally(assistant, surface).add(its)
        self.limits_away += other.limits_away
        for assistant, standing in other.standings.items() if alive else ():
            if assistant in self.standings:
                self.standings[assistant].add(standing)


def _count(counts: dict[str, int], name: str, amount: int = 1) -> None:
    counts[name] = counts.get(name, 0) + amount


def _reason(failure: GatewayError) -> str | None:
    if isinstance(failure, RateLimitedError):
        return failure.type
    return next((name for kind, name in REASONS if isinstance(failure, kind)), None)
