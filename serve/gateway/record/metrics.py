"""Prometheus metrics. Label values are configured names only, never what a client sent."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from serve.gateway.admission.gates import Gate
from serve.gateway.record.tally import Numbers, Spread, Standing
from serve.gateway.record.visit import Visit
from serve.gateway.upstream.replicas import Replica
from serve.state import State

REFRESH_SECONDS = 1.0
ALIVE_SECONDS = 5 * REFRESH_SECONDS
"""A process whose numbers are older than that has ended."""

Replicated = Callable[[str], Iterable[Replica]]


class Metrics:
    """The numbers of this process, and of those it shares a folder with."""

    def __init__(
        self,
        *,
        gates: Callable[[], Iterable[Gate]],
        replicas: Replicated,
        folder: Path | None = None,
    ) -> None:
        self._own = Numbers()
        self._open: set[Visit] = set()
        self._gates = gates
        self._replicas = replicas
        self._folder = folder
        self._registry = CollectorRegistry()
        self._registry.register(_Named(self._all))
        ProcessCollector(registry=self._registry)

    @property
    def shared(self) -> bool:
        return self._folder is not None

    def begin(self, visit: Visit) -> None:
        """Register a request as under way until it has ended."""
        self._open.add(visit)

    def first_token(self, visit: Visit, seconds: float) -> None:
        """Count how long a stream took to begin that still goes on."""
        self._own.tally(visit.assistant, visit.surface.name).first_token.take(seconds)

    def take(self, visit: Visit) -> None:
        """Count a request that has ended."""
        self._open.discard(visit)
        self._own.tally(visit.assistant, visit.surface.name).take(visit)

    def limits_away(self) -> None:
        self._own.limits_away += 1

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition in the form a scraper asks for, and its content type."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    async def publish(self) -> None:
        """Write our numbers for the other processes, for ever: any of them may be scraped."""
        try:
            while True:
                self._write()
                await asyncio.sleep(REFRESH_SECONDS)
        finally:
            self._write()  # what was counted since stays counted when this process has ended

    def _write(self) -> None:
        if self._folder is None:
            return
        self._look()
        part = self._folder / f".{os.getpid()}.new"
        part.write_bytes(msgspec.json.encode(self._own))
        part.replace(self._folder / f"{os.getpid()}.json")

    def _all(self) -> Numbers:
        self._look()
        if self._folder is None:
            return self._own
        found = msgspec.json.decode(msgspec.json.encode(self._own), type=Numbers)
        for file in self._folder.glob("*.json"):
            if file.stem == str(os.getpid()):
                continue
            alive = time.time() - file.stat().st_mtime < ALIVE_SECONDS
            found.add(msgspec.json.decode(file.read_bytes(), type=Numbers), alive=alive)
        return found

    def _look(self) -> None:
        """How things stand is read where it is kept, when somebody asks."""
        self._own.standings = {
            gate.name: _standing(gate, tuple(self._replicas(gate.name))) for gate in self._gates()
        }
        for visit in self._open:
            if (standing := self._own.standings.get(visit.assistant)) is not None:
                standing.under_way += visit.under_way


def _standing(gate: Gate, replicas: tuple[Replica, ...]) -> Standing:
    states = dict.fromkeys((state.value for state in State), 0)
    for replica in replicas:
        states[replica.state.value] += 1
    return Standing(gate.inside, gate.waiting, states, [r.breaker.open for r in replicas])


class _Named(Collector):
    """Renders the numbers as named Prometheus metrics."""

    def __init__(self, numbers: Callable[[], Numbers]) -> None:
        self._numbers = numbers

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        numbers = self._numbers()
        yield from _of_requests(numbers)
        yield from _of_answers(numbers)
        yield from _of_standings(numbers)
        away = CounterMetricFamily("hanlin_limits_away", "Times the shared counts were away.")
        away.add_metric((), numbers.limits_away)
        yield away


def _of_requests(numbers: Numbers) -> Iterator[Metric]:
    labels = ("assistant", "surface")
    requests = CounterMetricFamily(
        "hanlin_requests", "Requests, by class of status.", labels=(*labels, "status")
    )
    seconds = HistogramMetricFamily("hanlin_request_seconds", "Whole requests.", labels=labels)
    rejections = CounterMetricFamily(
        "hanlin_rejections", "Requests sent away.", labels=(*labels, "reason")
    )
    for assistant, by_surface in numbers.tallies.items():
        for surface, tally in by_surface.items():
            _add(seconds, (assistant, surface), tally.seconds)
            for outcome, count in tally.outcomes.items():
                requests.add_metric((assistant, surface, outcome), count)
            for reason, count in tally.rejections.items():
                rejections.add_metric((assistant, surface, reason), count)
    yield from (requests, seconds, rejections)


def _of_answers(numbers: Numbers) -> Iterator[Metric]:
    labels = ("assistant", "surface")
    overhead = HistogramMetricFamily(
        "hanlin_overhead_seconds",
        "The gateway's own part: until an answer begins, less queue and engine.",
        labels=labels,
    )
    first = HistogramMetricFamily(
        "hanlin_time_to_first_token_seconds", "Of streams.", labels=labels
    )
    each = HistogramMetricFamily(
        "hanlin_time_per_output_token_seconds", "Of streams, after the first.", labels=labels
    )
    tokens = CounterMetricFamily("hanlin_tokens", "Tokens.", labels=(*labels, "direction"))
    retries = CounterMetricFamily(
        "hanlin_retries", "Tries on another replica or connection.", labels=labels
    )
    for assistant, by_surface in numbers.tallies.items():
        for surface, tally in by_surface.items():
            _add(overhead, (assistant, surface), tally.overhead)
            _add(first, (assistant, surface), tally.first_token)
            _add(each, (assistant, surface), tally.per_token)
            tokens.add_metric((assistant, surface, "in"), tally.tokens_in)
            tokens.add_metric((assistant, surface, "out"), tally.tokens_out)
            retries.add_metric((assistant, surface), tally.retries)
    yield from (overhead, first, each, tokens, retries)


def _of_standings(numbers: Numbers) -> Iterator[Metric]:
    in_flight = GaugeMetricFamily("hanlin_in_flight", "Requests let in.", labels=("assistant",))
    queue = GaugeMetricFamily(
        "hanlin_queue_length", "Requests that wait to be let in.", labels=("assistant",)
    )
    state = GaugeMetricFamily(
        "hanlin_engine_state", "Replicas in each state.", labels=("assistant", "state")
    )
    breaker = GaugeMetricFamily(
        "hanlin_breaker_open",
        "1 while a replica has failed several times in a row.",
        labels=("assistant", "replica"),
    )
    under_way = GaugeMetricFamily(
        "hanlin_tokens_under_way",
        "Tokens of streams that have not ended; they are counted in hanlin_tokens when they have.",
        labels=("assistant",),
    )
    for assistant, now in numbers.standings.items():
        under_way.add_metric((assistant,), now.under_way)
        in_flight.add_metric((assistant,), now.in_flight)
        queue.add_metric((assistant,), now.queue)
        for name, count in now.states.items():
            state.add_metric((assistant, name), count)
        for number, opened in enumerate(now.open_breakers):
            breaker.add_metric((assistant, str(number)), opened)
    yield from (in_flight, queue, under_way, state, breaker)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], spread: Spread) -> None:
    """Prometheus counts in each bucket also what is in those before."""
    total, buckets = 0, []
    for bound, count in zip((*map(str, spread.bounds), "+Inf"), spread.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric(labels, buckets, spread.sum)
