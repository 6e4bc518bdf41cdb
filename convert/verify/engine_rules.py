"""Rules about how the engine is told to run: ranks, cache, lengths."""

from __future__ import annotations

from collections.abc import Iterator

from convert.geometry import Cut, Role, places
from convert.positions import reach
from convert.verify.report import Finding, NotApplicable
from convert.verify.view import CONFIG, View
from convert.weights.packing import PER_WORD, PackingError, read_layer, scale_rows
from convert.workspace import ENGINE

QUANT_POLICIES = (0, 4, 8)


def divisible(view: View) -> Iterator[Finding]:
    """Whether heads, hidden size and groups of scales divide among the ranks."""
    tp, shape = view.tp, view.geometry
    if tp == 1:
        return
    for name, size in (("attention heads", shape.heads), ("hidden dimensions", shape.hidden)):
        if size % tp:
            yield _cut(f"{size} {name} do not divide among {tp} ranks.")
    repeated = -(-shape.kv_heads // tp) * tp
    if repeated % shape.kv_heads:
        yield _cut(f"{shape.kv_heads} key-value heads can be neither dealt nor repeated to {tp}.")
    for place in places(shape):
        try:
            layer = read_layer(view.tensors, place.name, view.method)
        except PackingError:
            continue  # rule 4 says so
        groups = scale_rows(layer, view.method)
        if place.role is Role.out and groups % tp:
            yield _cut(
                f"{place.name} has {groups} groups of scales, which {tp} ranks cannot share."
            )
        if layer.scales and place.role.cut is Cut.outputs and layer.outputs % (PER_WORD * tp):
            yield _cut(f"{place.name} has {layer.outputs} outputs, not whole words for {tp} ranks.")


def _cut(what: str) -> Finding:
    return Finding(CONFIG, what, "Choose a tp that divides them: turbomind.tp in the declaration.")


def possible_ranks(view: View) -> Iterator[Finding]:
    others = {name: view.engine.get(name, 1) for name in ("dp", "cp", "ep")}
    sizes = {"tp": view.asked_tp, **others}
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1 or size & (size - 1):
            yield Finding(
                ENGINE, f"{name} is {size!r}.", "Ranks are counted in powers of two: 1, 2, 4, 8."
            )
            return
    if not _layout(sizes["tp"], sizes["dp"], sizes["cp"], sizes["ep"]):
        given = ", ".join(f"{name} {size}" for name, size in sizes.items())
        yield Finding(
            ENGINE,
            f"no number of GPUs can be divided as {given}.",
            "For a dense model set tp alone and leave dp, cp and ep at 1.",
        )


def _layout(tp: int, dp: int, cp: int, ep: int) -> bool:
    """Whether attention and experts can be spread over the same GPUs: some number of GPUs is both
    dp * attention_tp * cp and outer_dp * ep * expert_tp, with parts of tp of which one is tp."""
    parts = [n for n in range(1, tp + 1) if tp % n == 0]
    outer = [n for n in range(1, dp + 1) if dp % n == 0]
    return any(
        dp * attention * cp == copies * ep * experts and tp in (attention, experts)
        for attention in parts
        for experts in parts
        for copies in outer
    )


def reachable_length(view: View) -> Iterator[Finding]:
    asked = view.engine.get("session_len")
    if asked is None:
        return
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
        yield Finding(
            ENGINE,
            f"session_len is {asked!r}.",
            "Set turbomind.session_len to a positive whole number.",
        )
        return
    most = reach(view.config)
    if most is None:
        raise NotApplicable("config.json does not say how many positions the model has")
    if asked > most:
        yield Finding(
            ENGINE,
            f"session_len is {asked}, but the model has only {most} positions.",
            f"Set turbomind.session_len to {most} or less, or scale the positions (yarn).",
        )


def share_of_memory(view: View) -> Iterator[Finding]:
    share = view.engine.get("cache_max_entry_count", 0.8)
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share < 1:
        yield Finding(
            ENGINE,
            f"cache_max_entry_count is {share!r}; it is a share of the free memory, above 0 and "
            "below 1.",
            "Set turbomind.cache_max_entry_count to 0.8, or to what hanlin plan says.",
        )


def known_policy(view: View) -> Iterator[Finding]:
    policy = view.engine.get("quant_policy", 0)
    if policy not in QUANT_POLICIES or isinstance(policy, bool):
        yield Finding(
            ENGINE,
            f"quant_policy is {policy!r}; the cache is kept in 16 bits (0), 8 or 4.",
            "Set turbomind.quant_policy to 0, 4 or 8.",
        )
