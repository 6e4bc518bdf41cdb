"""The plan for people and for programs: `hanlin plan`, and what engines are started with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistants import House
from convert.fit.choice import Fit, LeftOut, Placement, fit
from convert.fit.gpus import Gpu
from convert.fit.need import Need
from convert.fit.needs import needs_of

COLUMNS = (
    "#", "assistant", "GPU", "weights", "other", "cache", "share", "session", "tokens", "bits",
)  # fmt: skip

NOTE = (
    "'#' is the order of starting, 'share' is --cache-max-entry-count, 'bits' are the cache's. "
    "Weights and cache are exact; 'other' (CUDA context, activations, logits) is an estimate that "
    "was never measured on a GPU. Start the engines in this order, each when the one before is "
    "ready: a share counts what is free at that moment."
)

_BITS = {0: "16", 8: "8", 4: "4"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def plan(house: House, gpus: Sequence[Gpu], *, workspaces: Path) -> Fit[Need]:
    """Which assistants of a house run on which GPUs, and what hinders the others."""
    needs, unknown = needs_of(house, workspaces)
    found = fit(needs, gpus)
    left_out = sorted((*found.left_out, *unknown), key=lambda left: left.name)
    return Fit(found.gpus, found.placements, tuple(left_out))


def tables(found: Fit[Need]) -> tuple[Table, ...]:
    """What is placed, what each GPU then has left, and what is left out."""
    placed = tuple(_row(i, p) for i, p in enumerate(found.placements, 1))
    gpus = tuple(
        (
            str(gpu.index),
            *map(number, (gpu.memory, found.taken(gpu), gpu.memory - found.taken(gpu))),
        )
        for gpu in found.gpus
    )
    return (
        Table("What runs where (GiB)", COLUMNS, placed),
        Table("GPUs (GiB)", ("GPU", "memory", "taken", "left"), gpus),
        left_out(found.left_out),
    )


def left_out(found: Iterable[LeftOut]) -> Table:
    """Who is not placed, and what would change that."""
    rows = tuple((out.name, out.why, "; ".join(out.remedies)) for out in found)
    return Table("Not placed", ("assistant", "why", "what would help"), rows)


def number(size: int) -> str:
    """Bytes in GiB."""
    return f"{size / 2**30:.2f}"


def _row(position: int, placed: Placement[Need]) -> tuple[str, ...]:
    need = placed.need
    return (
        str(position), need.name, ", ".join(map(str, placed.gpus)), number(need.weights),
        number(need.context + need.activations), number(placed.cache), f"{placed.share:.4f}",
        str(need.session_len), str(placed.tokens), _BITS[need.quant_policy],
    )  # fmt: skip


def as_json(found: Fit[Need]) -> dict[str, Any]:
    """The same for the engine host: bytes, and `start` in the order to start in."""
    return {
        "gpus": [
            {"gpu": gpu.index, "memory": gpu.memory, "taken": found.taken(gpu)}
            for gpu in found.gpus
        ],
        "start": [_placement(placed) for placed in found.placements],
        "left_out": [out.as_json() for out in found.left_out],
        "note": NOTE,
    }


def _placement(placed: Placement[Need]) -> Mapping[str, Any]:
    need = placed.need
    return {
        "assistant": need.name,
        "gpus": list(placed.gpus),
        "tp": need.tp,
        "cache_max_entry_count": placed.share,
        "session_len": need.session_len,
        "quant_policy": need.quant_policy,
        "max_batch_size": need.max_batch_size,
        "weights": need.weights,
        "context_estimated": need.context,
        "activations_estimated": need.activations,
        "kv_bytes_per_token": need.kv_per_token,
        "cache": placed.cache,
        "tokens": placed.tokens,
        "source": need.source,
    }
