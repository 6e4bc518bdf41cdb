"""Who gets which memory of this host, and who must leave for whom: pure decisions.

A device is one GPU, or the memory of a machine without one. What each engine takes of it and which
of them fit together is planned elsewhere (`hanlin.memory`) and handed in as a `Plan`; how long each
has been idle is told by the gateways. Nothing here looks at a clock, a process or a driver.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from assistants.load import House
from serve.engines.memory.eviction import cheapest

SHARE_STEP = 10_000
"""TurboMind is told its share in four digits, rounded down, and never the whole."""


@dataclass(frozen=True, slots=True)
class Device:
    """One memory that engines share."""

    index: int
    """Of a GPU, as the driver counts them."""
    kind: Literal["gpu", "memory"]
    memory: int
    """Bytes that engines may take together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one assistant's engine takes, in bytes of each of its devices."""

    assistant: str
    devices: int
    """How many it is split over."""
    context: int
    """Taken before the weights."""
    weights: int
    activations: int
    """Taken after the cache."""
    least_cache: int
    most_cache: int
    """More would never be used."""

    @property
    def fixed(self) -> int:
        return self.context + self.weights + self.activations

    @property
    def least(self) -> int:
        return self.fixed + self.least_cache


@dataclass(frozen=True, slots=True)
class Home:
    """Where the plan puts one of those that fit together."""

    devices: tuple[int, ...]
    cache: int
    """Bytes of cache on each of its devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is known of everybody before anybody is started."""

    devices: tuple[Device, ...]
    needs: Mapping[str, Need]
    """Of everybody who fits at least alone."""
    homes: Mapping[str, Home]
    order: tuple[str, ...]
    """Those with a home, in the order in which they are to be started."""
    never: Mapping[str, str]
    """Everybody else, each with a sentence that says why and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One engine process that holds memory now; an assistant may have two during an update."""

    assistant: str
    devices: tuple[int, ...]
    taken: int
    """Bytes of each of its devices, as planned: what is fixed, and the cache of its start."""
    in_flight: int
    """Requests it answers, and those that wait for it at a gateway."""
    idle: float
    """Seconds since it was last used."""
    ready_for: float | None
    """Seconds since its first token; None while it loads."""
    pinned: bool
    leaving: bool
    """Told to go; its memory is free only when it is gone."""


@dataclass(frozen=True, slots=True)
class Start:
    """There is room: start it here, now."""

    devices: tuple[int, ...]
    cache: int
    """Bytes on each of its devices."""


@dataclass(frozen=True, slots=True)
class Evict:
    """These must leave first."""

    assistants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """There will be room."""

    reason: str
    seconds: float | None
    """When to ask again at the latest; None: when a tenant changes, which nobody can foretell."""


@dataclass(frozen=True, slots=True)
class Never:
    """There will be no room as things are declared; says why, and what would help."""

    reason: str


Decision = Start | Evict | Wait | Never
Planner = Callable[[House], Plan]
"""Plans anew from what is declared, built and present at that moment."""

Free = Mapping[int, int]
"""Bytes nobody holds, by device."""


def decide(
    assistant: str, plan: Plan, tenants: Sequence[Tenant], *, minimum_stay: float
) -> Decision:
    """What is to happen so that an assistant which is not running can start.

    The fewest others leave for it, among as few those that were unused for longest; never one that
    is pinned, loading, in use, or ready for less than `minimum_stay` seconds. Those already leaving
    are waited for before anybody else is sent away. An older process of the same assistant holds
    what it holds and is never named: replacing it is the caller's business.
    """
    if assistant in plan.never or assistant not in plan.needs:
        return Never(plan.never.get(assistant, f"'{assistant}' is not in the plan of memory."))
    need = plan.needs[assistant]
    if not _fits_alone(need, plan):
        return Never(_too_large(need, plan))
    if start := _start(need, plan, tenants):
        return start
    staying = [tenant for tenant in tenants if not tenant.leaving]
    if _places(need, plan, _free(plan, staying)):
        return Wait(_waiting(t for t in tenants if t.leaving), None)
    stays = [
        (max(0.0, minimum_stay - tenant.ready_for), tenant)
        for tenant in staying
        if tenant.ready_for is not None and _may_leave(tenant, assistant)
    ]
    for seconds in sorted({0.0, *(stay for stay, _ in stays)}):
        able = [tenant for stay, tenant in stays if stay <= seconds]
        if victims := _victims(need, plan, staying, able):
            names = tuple(victim.assistant for victim in victims)
            return Wait(_waiting(victims), seconds) if seconds else Evict(names)
    return _blocked(need, plan, staying)


def share(need: Need, cache: int, free: int) -> float:
    """The part of what is free after its weights that makes TurboMind take `cache` bytes.

    `free` is what the driver says right before the start, on the fullest of its devices. Where that
    is less than was planned, the cache gives way so that the activations still fit.
    """
    available = free - need.context - need.weights
    if available <= 0:
        return 1 / SHARE_STEP
    wanted = min(cache, available - need.activations) * SHARE_STEP // available
    return max(1, min(wanted, SHARE_STEP - 1)) / SHARE_STEP


def _fits_alone(need: Need, plan: Plan) -> bool:
    return bool(_places(need, plan, _free(plan, ())))


def _free(plan: Plan, tenants: Iterable[Tenant]) -> dict[int, int]:
    free = {device.index: device.memory for device in plan.devices}
    for tenant in tenants:
        for index in tenant.devices:
            if index in free:  # a GPU that was lost takes its engines with it
                free[index] -= tenant.taken
    return free


def _places(need: Need, plan: Plan, free: Free) -> tuple[int, ...]:
    """The devices that hold it as things are; none if they are fewer than it is split over."""
    able = tuple(device.index for device in plan.devices if free[device.index] >= need.least)
    return able if len(able) >= need.devices else ()


def _start(need: Need, plan: Plan, tenants: Sequence[Tenant]) -> Start | None:
    """At home if there is room; else where the fewest homes of others are in the way."""
    free = _free(plan, tenants)
    able = _places(need, plan, free)
    if not able:
        return None
    home = plan.homes.get(need.assistant)
    if home and set(home.devices) <= set(able):
        room = min(free[index] for index in home.devices) - need.fixed
        return Start(home.devices, min(home.cache, room))
    beside = {index: _beside_homes(need, index, plan, free, tenants) for index in able}
    best = sorted(able, key=lambda index: (beside[index][0], -beside[index][1], index))
    devices = tuple(sorted(best[: need.devices]))
    room = min(beside[index][1] for index in devices) - need.fixed
    return Start(devices, min(room, need.most_cache))


def _beside_homes(
    need: Need, device: int, plan: Plan, free: Free, tenants: Sequence[Tenant]
) -> tuple[int, int]:
    """How many empty homes on a device must move for it, and the bytes beside the others."""
    running = {tenant.assistant for tenant in tenants}
    room, moved = free[device], 0
    for name in plan.order:
        home = plan.homes.get(name)
        if not home or device not in home.devices or name in running or name == need.assistant:
            continue
        taken = plan.needs[name].fixed + home.cache
        if room - taken >= need.least:
            room -= taken
        else:
            moved += 1
    return moved, room


def _may_leave(tenant: Tenant, assistant: str) -> bool:
    return not (tenant.pinned or tenant.in_flight or tenant.assistant == assistant)


def _victims(
    need: Need, plan: Plan, staying: Sequence[Tenant], able: Sequence[Tenant]
) -> tuple[Tenant, ...]:
    """Whose leaving makes room on the devices where that costs least; none if nobody's does."""
    free = _free(plan, staying)
    possible = [device.index for device in plan.devices if device.memory >= need.least]
    sets = itertools.combinations(possible, need.devices)
    return cheapest(
        able, ({index: need.least - free[index] for index in devices} for devices in sets)
    )


def _blocked(need: Need, plan: Plan, staying: Sequence[Tenant]) -> Wait | Never:
    """Nobody may leave now; whether anybody ever will is a question of what is pinned."""
    pinned = [t for t in staying if t.pinned and t.assistant != need.assistant]
    if _places(need, plan, _free(plan, pinned)):
        own = need.assistant
        held = (t for t in staying if t.in_flight or t.ready_for is None or t.assistant == own)
        return Wait(_waiting(t for t in held if t not in pinned), None)
    names = ", ".join(sorted({tenant.assistant for tenant in pinned}))
    return Never(
        f"'{need.assistant}' needs {_gib(need.least)} and does not fit beside what is pinned "
        f"({names}); take `pinned` from one of them, or start it on another host."
    )


def _too_large(need: Need, plan: Plan) -> str:
    where = f" on each of {need.devices} GPUs" if need.devices > 1 else ""
    there = ", ".join(_gib(device.memory) for device in plan.devices) or "nothing"
    return (
        f"'{need.assistant}' needs {_gib(need.least)}{where}, and there is {there}; "
        "hanlin plan says what would make it fit."
    )


def _waiting(tenants: Iterable[Tenant]) -> str:
    return f"waits for room: {', '.join(f'{t.assistant} {_stand(t)}' for t in tenants)}"


def _stand(tenant: Tenant) -> str:
    """What keeps a tenant, or what it is about."""
    if tenant.leaving:
        return "is stopping"
    if tenant.ready_for is None:
        return "is loading"
    return "is in use" if tenant.in_flight else "stays a little longer"


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
