"""How a house stands, put together from what its engine host and its gateway say: values alone.

Tokens a second are what the gateway has counted between two readings of its metrics: of answers
that have ended, and of streams as far as they have come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from serve.gateway.upstream.replicas import MOST_ABLE_FIRST

FIRST_TOKEN = "hanlin_time_to_first_token_seconds"


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One engine, as its host tells of it."""

    assistant: str
    state: str
    url: str | None = None
    engine: str | None = None
    since: float | None = None
    restarts: int = 0
    lanes: tuple[int, ...] = ()
    memory: int | None = None
    pinned: bool = False
    workspace: str | None = None
    reason: str | None = None


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU, or the memory of a machine that has none."""

    lane: int
    kind: str
    memory: int
    taken: int


class Hosted(msgspec.Struct, frozen=True):
    """What an engine host answers."""

    version: int
    replicas: tuple[Replica, ...]
    lanes: tuple[Lane, ...] = ()


class Spell(msgspec.Struct, frozen=True):
    """How long something took, over all times it was done."""

    mean: float
    count: int


class Counted(msgspec.Struct, frozen=True):
    """What a gateway has counted for one assistant."""

    in_flight: int = 0
    queue: int = 0
    tokens_out: int = 0
    under_way: int = 0
    """Tokens of streams that have not ended."""
    first_token_seconds: float = 0.0
    first_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_out + self.under_way

    @property
    def first_token(self) -> Spell | None:
        if not self.first_tokens:
            return None
        return Spell(self.first_token_seconds / self.first_tokens, self.first_tokens)


class Reading(msgspec.Struct, frozen=True):
    """A gateway's metrics at one moment (of a clock that only runs forwards)."""

    at: float
    counted: Mapping[str, Counted]


class Assistant(msgspec.Struct, frozen=True, kw_only=True):
    """How one assistant stands. What only the gateway knows is None while that is away."""

    assistant: str
    state: str
    elsewhere: bool
    """Whether its engines are none of the engine host's."""
    in_flight: int | None
    queue: int | None
    tokens_per_second: float | None
    time_to_first_token: Spell | None
    replicas: tuple[Replica, ...]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway or the engine host: where it was asked, and what it said or why not."""

    url: str | None
    state: str | None = None
    problem: str | None = None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The whole house at one moment (in unix time)."""

    at: float
    gateway: Part
    engines: Part
    lanes: tuple[Lane, ...]
    rate_seconds: float | None
    """How far apart the readings are between which tokens were counted."""
    assistants: tuple[Assistant, ...]


def reading(exposition: str, at: float) -> Reading:
    """What there is of interest in the text that a gateway tells Prometheus.

    Raises:
        ValueError: it is no such text.
    """
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            field = _field(sample.name, sample.labels)
            if field is not None:
                of_one = found.setdefault(sample.labels["assistant"], {})
                of_one[field] = of_one.get(field, 0) + sample.value
    return Reading(at, {name: _counted(of_one) for name, of_one in found.items()})


def _counted(values: Mapping[str, float]) -> Counted:
    """Everything Prometheus is told is a float; only the seconds really are."""
    seconds = values.get("first_token_seconds", 0.0)
    whole = {name: int(value) for name, value in values.items() if name != "first_token_seconds"}
    return Counted(first_token_seconds=seconds, **whole)


def _field(name: str, labels: Mapping[str, str]) -> str | None:
    """Where a sample is counted; those of several surfaces add up."""
    if name == "hanlin_tokens_total":
        return "tokens_out" if labels["direction"] == "out" else None
    return {
        "hanlin_in_flight": "in_flight",
        "hanlin_queue_length": "queue",
        "hanlin_tokens_under_way": "under_way",
        f"{FIRST_TOKEN}_sum": "first_token_seconds",
        f"{FIRST_TOKEN}_count": "first_tokens",
    }.get(name)


class Window:
    """The readings of the last while; the rate is between its ends."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._readings: list[Reading] = []

    def take(self, reading: Reading) -> None:
        """Keep it; a gateway that counts less than before has been started anew."""
        if any(_less(reading, earlier) for earlier in self._readings[-1:]):
            self._readings.clear()
        self._readings.append(reading)
        oldest = reading.at - self._seconds
        while len(self._readings) > 2 and self._readings[1].at <= oldest:
            self._readings.pop(0)

    @property
    def last(self) -> Reading | None:
        return self._readings[-1] if self._readings else None

    @property
    def seconds(self) -> float | None:
        if len(self._readings) < 2:
            return None
        return self._readings[-1].at - self._readings[0].at

    def tokens_per_second(self, assistant: str) -> float | None:
        seconds = self.seconds
        if not seconds:
            return None
        before, now = (_of(self._readings[end], assistant).tokens for end in (0, -1))
        return max(now - before, 0.0) / seconds


def overview(
    at: float,
    window: Window,
    *,
    gateway: tuple[Part, Mapping[str, str]],
    engines: tuple[Part, Hosted | None],
) -> Overview:
    """Put together what was heard: of the gateway also its assistants' states."""
    (door, states), (host, hosted) = gateway, engines
    by_name: dict[str, list[Replica]] = {name: [] for name in states}
    for replica in hosted.replicas if hosted else ():
        by_name.setdefault(replica.assistant, []).append(replica)
    last = window.last if door.state else None
    return Overview(
        at=at,
        gateway=door,
        engines=host,
        lanes=hosted.lanes if hosted else (),
        rate_seconds=window.seconds if last else None,
        assistants=tuple(
            _assistant(
                name,
                states.get(name),
                replicas,
                _of(last, name) if last else None,
                window.tokens_per_second(name) if last else None,
                listed=hosted is not None,
            )
            for name, replicas in by_name.items()
        ),
    )


def _assistant(
    name: str,
    state: str | None,
    replicas: Sequence[Replica],
    counted: Counted | None,
    rate: float | None,
    *,
    listed: bool,
) -> Assistant:
    return Assistant(
        assistant=name,
        state=state or _best(replica.state for replica in replicas),
        elsewhere=listed and not replicas,
        in_flight=counted.in_flight if counted else None,
        queue=counted.queue if counted else None,
        tokens_per_second=rate,
        time_to_first_token=counted.first_token if counted else None,
        replicas=tuple(replicas),
    )


def _best(states: Iterable[str]) -> str:
    """How an assistant with these replicas stands, as the gateway would say."""
    order = [state.value for state in MOST_ABLE_FIRST]
    return min(states, key=lambda state: order.index(state) if state in order else len(order))


def _of(reading: Reading, assistant: str) -> Counted:
    return reading.counted.get(assistant, Counted())


def _less(now: Reading, before: Reading) -> bool:
    return any(
        now.counted.get(name, Counted()).tokens_out < counted.tokens_out
        for name, counted in before.counted.items()
    )
