"""How a house stands, put together from what its engine host and its gateway say: values alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from serve.gateway.upstream.replicas import MOST_ABLE_FIRST
from serve.pace import Pace, Readings, pace
from serve.reading import Counted


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One engine, as its host tells of it."""

    assistant: str
    state: str
    url: str | None = None
    engine: str | None = None
    since: float | None = None
    restarts: int = 0
    devices: tuple[int, ...] = ()
    memory: int | None = None
    pinned: bool = False
    workspace: str | None = None
    reason: str | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU, or the memory of a machine that has none."""

    device: int
    kind: str
    memory: int
    taken: int


class Hosted(msgspec.Struct, frozen=True):
    """What an engine host answers."""

    version: int
    replicas: tuple[Replica, ...]
    devices: tuple[Device, ...] = ()
    problem: str | None = None


class Spell(msgspec.Struct, frozen=True):
    """How long something took, over all times it was done."""

    mean: float
    count: int


class Assistant(msgspec.Struct, frozen=True, kw_only=True):
    """How one assistant stands. What only the gateway knows is None while that is away."""

    assistant: str
    state: str
    elsewhere: bool
    """Whether its engines are none of the engine host's."""
    in_flight: int | None
    queue: int | None
    cut_off: int | None
    """Engines that failed several times in a row, and get no requests for a while."""
    tokens_per_second: float | None
    time_to_first_token: Spell | None
    replicas: tuple[Replica, ...]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway or the engine host: where it was asked, and what it said or why not."""

    url: str | None
    state: str | None = None
    problem: str | None = None
    declarations: str | None = None
    """Why it does not serve the declarations as they are now, but as they were before."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The whole house at one moment (in unix time)."""

    at: float
    gateway: Part
    engines: Part
    devices: tuple[Device, ...]
    rate_seconds: float | None
    """How far apart the readings are between which tokens were counted."""
    assistants: tuple[Assistant, ...]


def overview(
    at: float,
    readings: Readings,
    *,
    gateway: tuple[Part, Mapping[str, str]],
    engines: tuple[Part, Hosted | None],
) -> Overview:
    """Put together what was heard: of the gateway also its assistants' states."""
    (door, states), (host, hosted) = gateway, engines
    by_name: dict[str, list[Replica]] = {name: [] for name in states}
    for replica in hosted.replicas if hosted else ():
        by_name.setdefault(replica.assistant, []).append(replica)
    last = readings.last if door.problem is None else None
    paces = {name: pace(readings.all, name) for name in by_name} if last else {}
    return Overview(
        at=at,
        gateway=door,
        engines=host,
        devices=hosted.devices if hosted else (),
        rate_seconds=readings.seconds if last else None,
        assistants=tuple(
            _assistant(
                name,
                states.get(name),
                replicas,
                last.of(name) if last else None,
                paces.get(name),
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
    went: Pace | None,
    *,
    listed: bool,
) -> Assistant:
    return Assistant(
        assistant=name,
        state=state or _best(replica.state for replica in replicas),
        elsewhere=listed and not replicas,
        in_flight=counted.in_flight if counted else None,
        queue=counted.queue if counted else None,
        cut_off=counted.cut_off if counted else None,
        tokens_per_second=went.tokens_per_second if went else None,
        time_to_first_token=_first_token(counted) if counted else None,
        replicas=tuple(replicas),
    )


def _first_token(counted: Counted) -> Spell | None:
    """Of all streams since the gateway started."""
    times = counted.first_tokens
    return Spell(counted.first_token_seconds / times, times) if times else None


def _best(states: Iterable[str]) -> str:
    """How an assistant with these replicas stands, as the gateway would say."""
    order = [state.value for state in MOST_ABLE_FIRST]
    return min(states, key=lambda state: order.index(state) if state in order else len(order))
