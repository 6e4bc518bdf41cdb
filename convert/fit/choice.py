"""Which assistants run on which GPUs, with how much cache, started in which order: pure decisions.

TurboMind takes its cache as a share of what is free when its weights are loaded. So engines are
started one after the other, and the share of each only means what it should in that order. What is
decided here depends on nothing but the values given, and not on the order they are given in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from convert.fit.gpus import Gpu
from convert.fit.memory import PAGE, cache_bytes, tokens_held

SHARE_STEP = 10_000
"""Shares are told to the engine in four digits, rounded down, and are never the whole."""

RESERVE = 20
"""One part in so many of every GPU is given to nobody: what the driver keeps, and what our
estimates of activations and contexts, which were never measured, leave out."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one assistant's engine takes of each of its `tp` GPUs, in bytes."""

    name: str
    tp: int
    weights: int
    context: int
    """Taken before the weights."""
    activations: int
    """Taken after the cache."""
    kv_per_token: int
    session_len: int
    max_batch_size: int
    quant_policy: int = 0
    source: str = ""
    """Where the figures come from."""
    kv_by_policy: Mapping[int, int] | None = None
    """kv_per_token under every quant_policy, to say what another would change."""
    awq_weights: int | None = None
    """Weights if they were 4-bit, where they are not and could be."""

    @property
    def fixed(self) -> int:
        return self.context + self.weights + self.activations

    @property
    def least_cache(self) -> int:
        """One conversation of full length, and a page for what rounding takes."""
        return cache_bytes(self.kv_per_token, self.session_len) + PAGE

    @property
    def most_cache(self) -> int:
        """All conversations at full length; more would never be used."""
        tokens = self.session_len * self.max_batch_size
        return cache_bytes(self.kv_per_token, tokens) + PAGE

    @property
    def least(self) -> int:
        return self.fixed + self.least_cache


@dataclass(frozen=True, slots=True)
class Placement:
    """One assistant on its GPUs; placements are listed in the order they are to be started in."""

    need: Need
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


@dataclass(frozen=True, slots=True)
class Fit:
    """The whole decision."""

    gpus: tuple[Gpu, ...]
    placements: tuple[Placement, ...]
    left_out: tuple[LeftOut, ...]

    def taken(self, gpu: Gpu) -> int:
        return sum(p.taken for p in self.placements if gpu.index in p.gpus)


Chosen = dict[str, tuple[int, ...]]
Preference = Callable[[int, int], tuple[int, int]]


def fit(needs: Iterable[Need], gpus: Sequence[Gpu]) -> Fit:
    """Place assistants on GPUs, largest first: each where most is free, or in the first place, or
    in the tightest, whichever leaves fewest out; then what is left over is dealt out as cache."""
    order = sorted(needs, key=lambda need: (-need.tp * need.least, need.name))
    hosts = tuple(sorted(gpus, key=lambda gpu: gpu.index))
    preferences: tuple[Preference, ...] = (
        lambda free, index: (-free, index),
        lambda free, index: (0, index),
        lambda free, index: (free, index),
    )
    chosen = max((_placed(order, hosts, prefer) for prefer in preferences), key=len)
    placements = _with_shares([n for n in order if n.name in chosen], chosen, hosts)
    result = Fit(hosts, placements, ())
    left = [n for n in order if n.name not in chosen]
    explained = tuple(_explained(need, hosts, _free(order, chosen, hosts)) for need in left)
    return replace(result, left_out=explained)


def _placed(order: Sequence[Need], gpus: Sequence[Gpu], preference: Preference) -> Chosen:
    free = {gpu.index: _usable(gpu) for gpu in gpus}
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


def _usable(gpu: Gpu) -> int:
    return gpu.memory - gpu.memory // RESERVE


def _free(order: Sequence[Need], chosen: Chosen, gpus: Sequence[Gpu]) -> dict[int, int]:
    """What is left of each GPU when everybody chosen has the least."""
    by_name = {need.name: need for need in order}
    return {
        gpu.index: _usable(gpu)
        - sum(by_name[name].least for name, at in chosen.items() if gpu.index in at)
        for gpu in gpus
    }


def _with_shares(
    order: Sequence[Need], chosen: Chosen, gpus: Sequence[Gpu]
) -> tuple[Placement, ...]:
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
        cache = min(need.least_cache + extra, need.most_cache)
        available = min(free[i] for i in at) - need.context - need.weights
        share = min(cache * SHARE_STEP // available, SHARE_STEP - 1) / SHARE_STEP
        placement = Placement(need, at, share, int(share * available))
        placements.append(placement)
        for index in at:
            free[index] -= placement.taken
    return tuple(placements)


def _explained(need: Need, gpus: Sequence[Gpu], free: Mapping[int, int]) -> LeftOut:
    if len(gpus) < need.tp:
        why = f"it is split over {need.tp} GPUs, and there are {len(gpus)}"
        return LeftOut(need.name, why, need.least, ("lower turbomind.tp",))
    room = sorted(free.values(), reverse=True)[need.tp - 1]
    alone = sorted((_usable(gpu) for gpu in gpus), reverse=True)[need.tp - 1]
    short = need.least - room
    where = "on each of its GPUs " if need.tp > 1 else ""
    beside = "beside the others" if alone >= need.least else "even alone"
    why = (
        f"it needs {gib(need.least)} {where}{beside}, and {gib(max(0, room))} is free: "
        f"{short} bytes too little"
    )
    return LeftOut(need.name, why, short, tuple(_remedies(need, room, alone)))


def _remedies(need: Need, room: int, alone: int) -> Iterable[str]:
    smaller = list(_smaller(need))
    enough = [text for text, other in smaller if other.least <= room]
    yield from (f"{text} makes it fit" for text in enough)
    if not enough and len(smaller) > 1:
        everything = replace(
            need,
            weights=min(other.weights for _, other in smaller),
            kv_per_token=min(other.kv_per_token for _, other in smaller),
        )
        verdict = "makes it fit" if everything.least <= room else (
            f"still leaves it {gib(everything.least - room)} short"
        )  # fmt: skip
        yield f"{' and '.join(text for text, _ in smaller)} together {verdict}"
    tokens = tokens_held(need.kv_per_token, max(0, room - need.fixed - PAGE))
    if tokens and tokens < need.session_len:
        yield f"turbomind.session_len: {tokens} makes it fit"
    large = need.least * RESERVE // (RESERVE - 1) + 1
    yield f"{'a GPU' if alone < need.least else 'another GPU'} of {gib(large)} holds it"


def _smaller(need: Need) -> Iterable[tuple[str, Need]]:
    if need.awq_weights is not None:
        yield "turbomind.quantize: awq", replace(need, weights=need.awq_weights)
    policies = need.kv_by_policy or {}
    for policy in (8, 4):
        if policies.get(policy, need.kv_per_token) < need.kv_per_token:
            text = f"turbomind.quant_policy: {policy}"
            yield text, replace(need, kv_per_token=policies[policy])
            return


def gib(size: int) -> str:
    """Bytes as people compare them."""
    return f"{size / 2**30:.2f} GiB"
