"""The plan of a machine without a GPU, for people and for programs: what llama.cpp's engines take
of its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assistants import House
from convert.fit.choice import Fit, Placement, fit, usable
from convert.fit.embedded import Need, needs_of
from convert.fit.gpus import Gpu
from convert.fit.table import Table, left_out, number

COLUMNS = ("#", "assistant", "weights", "other", "cache", "tokens")

NOTE = (
    "'tokens' are those of all conversations at once (llamacpp.context times llamacpp.parallel); "
    "'other' is the process, its buffers and old prompts. What is not placed is started when it is "
    "asked for and others can make room, unless its sentence says that it never fits."
)


def plan(house: House, memory: int, *, workspaces: Path) -> Fit[Need]:
    """Which assistants of a house run together in so many bytes, and what hinders the others."""
    needs, unknown = needs_of(house, workspaces)
    found = fit(needs, (Gpu(0, memory),))
    return Fit(found.gpus, found.placements, (*found.left_out, *unknown))


def tables(found: Fit[Need]) -> tuple[Table, ...]:
    """What is placed, what is left of the memory then, and what is left out."""
    placed = tuple(_row(i, p) for i, p in enumerate(found.placements, 1))
    (machine,) = found.gpus
    taken, room = _taken(found), usable(machine)
    sizes = tuple(map(number, (machine.memory, taken, room - taken)))
    return (
        Table("What runs together (GiB)", COLUMNS, placed),
        Table("Memory (GiB)", ("of engines", "taken", "left"), (sizes,)),
        left_out(found.left_out),
    )


def _taken(found: Fit[Need]) -> int:
    """A cache is taken whole, not as a share that is told in four digits."""
    return sum(placed.need.least for placed in found.placements)


def _row(position: int, placed: Placement[Need]) -> tuple[str, ...]:
    need = placed.need
    sizes = (need.weights, need.context + need.activations, need.least_cache)
    return (str(position), need.name, *map(number, sizes), str(need.tokens))


def as_json(found: Fit[Need]) -> dict[str, Any]:
    """The same in bytes, and `start` in the order to start in."""
    (machine,) = found.gpus
    return {
        "memory": machine.memory,
        "taken": _taken(found),
        "start": [_placement(placed.need) for placed in found.placements],
        "left_out": [out.as_json() for out in found.left_out],
        "note": NOTE,
    }


def _placement(need: Need) -> dict[str, Any]:
    return {
        "assistant": need.name,
        "weights": need.weights,
        "process": need.context,
        "buffers": need.activations,
        "cache": need.least_cache,
        "tokens": need.tokens,
    }
