"""Which assistants run on which GPUs, with how much cache, started in which order: pure decisions.

TurboMind takes its cache as a share of what is free when its weights are loaded. So engines are
started one after the other, and the share of each only means what it should in that order. What is
decided here depends on nothing but the values given, and not on the order they are given in. The
memory of a machine without a GPU is one more `Gpu` here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Generic, Protocol, TypeVar

from convert.fit.gpus import Gpu
from convert.fit.memory import tokens_held

SHARE_STEP = 10_000
"""Shares are told to the engine in four digits, rounded down, and are never the whole."""

RESERVE = 20
"""One part in so many of every GPU is given to nobody: what the driver keeps, and what our
estimates of activations and contexts, which were never measured, leave out."""


class Rank(IntEnum):
    """Who is placed first where not all can be."""

    pinned = 0
    """Never leaves."""
    at_once = 1
    on_demand = 2


class Wants(Protocol):
    """What placing asks of a need: bytes on each of its `tp` places."""

    @property
    def name(self) -> str: ...
    @property
    def tp(self) -> int: ...
    @property
    def rank(self) -> Rank: ...
    @property
    def context(self) -> int: ...
    @property
    def weights(self) -> int: ...
    @property
    def fixed(self) -> int: ...
    @property
    def least_cache(self) -> int: ...
    @property
    def most_cache(self) -> int: ...
    @property
    def least(self) -> int: ...
    @property
    def kv_per_token(self) -> int: ...
    def remedies(self, room: int, alone: int) -> Iterable[str]: ...


N = TypeVar("N", bound=Wants)


@dataclass(frozen=True, slots=True)
class Placement(Generic[N]):
    """One assistant on its GPUs; placements are listed in the order they are to be started in."""

    need: N
    gpus: tuple[int, ...]
    share: float
    """For --cache-max-entry-count."""
    cache: int
    """Bytes of cache on each GPU."""

    @property
    def tokens(self) -> int:
        return tokens_held(self.need.kv_per_token, self.cache)

    @property
    def taken(self) -> int:
        """Of each of its GPUs."""
        return self.need.fixed + self.cache


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An assistant that is not placed, why, and what would change that."""

    name: str
    why: str
    short_by: int = 0
    """Bytes missing on each GPU it would need."""
    remedies: tuple[str, ...] = ()
    for_good: bool = True
    """Whether it would still not fit if everybody left who may."""

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "assistant": self.name,
            "why": self.why,
            "short_by": self.short_by,
            "remedies": list(self.remedies),
            "for_good": self.for_good,
        }


@dataclass(frozen=True, slots=True)
class Fit(Generic[N]):
    """The whole decision."""

    gpus: tuple[Gpu, ...]
    placements: tuple[Placement[N], ...]
    left_out: tuple[LeftOut, ...]

    def taken(self, gpu: Gpu) -> int:
        return sum(p.taken for p in self.placements if gpu.index in p.gpus)


@dataclass(frozen=True, slots=True)
class _Room:
    """Free bytes of each GPU, by who else is there."""

    usable: Mapping[int, int]
    free: Mapping[int, int]
    """Beside the least of everybody placed."""
    beside_pinned: Mapping[int, int]
    pinned: tuple[str, ...]


Chosen = dict[str, tuple[int, ...]]
Preference = Callable[[int, int], tuple[int, int]]


def fit(needs: Iterable[N], gpus: Sequence[Gpu]) -> Fit[N]:
    """Place assistants on GPUs, by rank, largest first: each where most is free, or in the first
    place, or in the tightest, whichever leaves fewest out; then what is left over is dealt out as
    cache. What is pinned gets no cache that would keep out for good whom it could let in."""
    order = sorted(needs, key=lambda need: (need.rank, -need.tp * need.least, need.name))
    hosts = tuple(sorted(gpus, key=lambda gpu: gpu.index))
    preferences: tuple[Preference, ...] = (
        lambda free, index: (-free, index),
        lambda free, index: (0, index),
        lambda free, index: (free, index),
    )
    tried = [_placed(order, hosts, prefer) for prefer in preferences]
    chosen = max(tried, key=lambda names: _served(order, names))
    placed = [need for need in order if need.name in chosen]
    left = [need for need in order if need.name not in chosen]
    placements = _with_shares(placed, chosen, hosts, frugal=False)
    if _kept_out(left, placements, hosts):
        placements = _with_shares(placed, chosen, hosts, frugal=True)
    room = _Room(
        usable={gpu.index: usable(gpu) for gpu in hosts},
        free=_free(order, chosen, hosts),
        beside_pinned=_beside_pinned(placements, hosts),
        pinned=tuple(need.name for need in placed if need.rank is Rank.pinned),
    )
    return Fit(hosts, placements, tuple(_explained(need, room) for need in left))


def usable(gpu: Gpu) -> int:
    """What of a GPU is given to engines."""
    return gpu.memory - gpu.memory // RESERVE


def holding(size: int) -> int:
    """How large a GPU is of which so much is usable."""
    return size * RESERVE // (RESERVE - 1) + 1


def _placed(order: Sequence[N], gpus: Sequence[Gpu], preference: Preference) -> Chosen:
    free = {gpu.index: usable(gpu) for gpu in gpus}
    chosen: Chosen = {}
    for need in order:
        able = [index for index in free if free[index] >= need.least]
        best = sorted(able, key=lambda index: preference(free[index], index))[: need.tp]
        if len(best) < need.tp:
            continue
        chosen[need.name] = tuple(sorted(best))
        for index in best:
            free[index] -= need.least
    return chosen


def _served(order: Sequence[N], chosen: Chosen) -> list[int]:
    """How many of each rank are placed, the first rank first."""
    placed = Counter(need.rank for need in order if need.name in chosen)
    return [placed[rank] for rank in sorted({need.rank for need in order})]


def _kept_out(left: Sequence[N], placements: Sequence[Placement[N]], gpus: Sequence[Gpu]) -> bool:
    """Whether somebody would fit beside the least of those that never leave, and does not now."""
    least = [replace(placed, cache=placed.need.least_cache) for placed in placements]
    now, then = _beside_pinned(placements, gpus), _beside_pinned(least, gpus)
    others = (need for need in left if need.rank is not Rank.pinned)
    return any(_able(need, now) < need.tp <= _able(need, then) for need in others)


def _beside_pinned(placements: Sequence[Placement[N]], gpus: Sequence[Gpu]) -> dict[int, int]:
    """What is left of each GPU when everybody has gone who ever does."""
    free = {gpu.index: usable(gpu) for gpu in gpus}
    for placed in placements:
        if placed.need.rank is Rank.pinned:
            for index in placed.gpus:
                free[index] -= max(placed.taken, placed.need.least)
    return free


def _able(need: Wants, free: Mapping[int, int]) -> int:
    return sum(size >= need.least for size in free.values())


def _free(order: Sequence[N], chosen: Chosen, gpus: Sequence[Gpu]) -> dict[int, int]:
    """What is left of each GPU when everybody chosen has the least."""
    by_name = {need.name: need for need in order}
    return {
        gpu.index: usable(gpu)
        - sum(by_name[name].least for name, at in chosen.items() if gpu.index in at)
        for gpu in gpus
    }


def _with_shares(
    order: Sequence[N], chosen: Chosen, gpus: Sequence[Gpu], *, frugal: bool
) -> tuple[Placement[N], ...]:
    """`frugal`: nothing but the least for those that never leave."""
    spare = _free(order, chosen, gpus)
    wanted = {gpu.index: 0 for gpu in gpus}
    for need in order:
        for index in chosen[need.name]:
            wanted[index] += need.least_cache
    free = {gpu.index: gpu.memory for gpu in gpus}
    placements = []
    for need in order:
        at = chosen[need.name]
        extra = min(spare[i] * need.least_cache // wanted[i] for i in at)
        most = need.least_cache if frugal and need.rank is Rank.pinned else need.most_cache
        cache = min(need.least_cache + extra, most)
        available = min(free[i] for i in at) - need.context - need.weights
        share = min(cache * SHARE_STEP // available, SHARE_STEP - 1) / SHARE_STEP
        placement = Placement(need, at, share, int(share * available))
        placements.append(placement)
        for index in at:
            free[index] -= placement.taken
    return tuple(placements)


def _explained(need: Wants, room: _Room) -> LeftOut:
    gpus = len(room.usable)
    if gpus < need.tp:
        why = f"it is split over {need.tp} GPUs, and there are {gpus}"
        return LeftOut(need.name, why, need.least, ("lower turbomind.tp",))
    alone = _on_each(need, room.usable)
    stays = alone if need.rank is Rank.pinned else _on_each(need, room.beside_pinned)
    for_good = stays < need.least
    if alone < need.least:
        beside, free = "even alone", _on_each(need, room.free)
    elif for_good:
        beside, free = f"beside what is pinned ({', '.join(room.pinned)})", stays
    else:
        beside, free = "beside the others", _on_each(need, room.free)
    short = need.least - free
    where = "on each of its GPUs " if need.tp > 1 else ""
    why = (
        f"it needs {gib(need.least)} {where}{beside}, and {gib(max(0, free))} is free: "
        f"{short} bytes too little"
    )
    return LeftOut(need.name, why, short, tuple(need.remedies(free, alone)), for_good)


def _on_each(need: Wants, free: Mapping[int, int]) -> int:
    """What the best places for it have at least."""
    return sorted(free.values(), reverse=True)[need.tp - 1]


def gib(size: int) -> str:
    """Bytes as people compare them."""
    return f"{size / 2**30:.2f} GiB"
