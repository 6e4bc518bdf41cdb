"""From the plan of memory, `convert.fit`, to the devices that the engine host decides by.

TurboMind's engines share GPUs; llama.cpp's share the memory of the machine, which counts as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from assistants import HanlinError, House
from convert.fit import embedded, needs
from convert.fit.choice import LeftOut, Placement, Wants, fit, usable
from convert.fit.gpus import Gpu, read_size
from hanlin.machine import for_engines
from serve.engines.memory import gpus
from serve.engines.memory.gpus import Seen
from serve.engines.memory.placement import Device, Home, Need, Plan, Planner

MEMORY = 0
"""The number of the one device of a machine without a GPU."""
WITHOUT_A_GPU = "--engine llamacpp does without"

N = TypeVar("N", bound=Wants)
Look = Callable[[], Seen]
Kind = Literal["gpu", "memory"]


def planner(
    engine: str, workspaces: Path, *, memory: str | None = None, look: Look = gpus.look
) -> Planner:
    """What plans for the engines of a host, from what is built and present whenever it is asked.

    Raises:
        HanlinError: `memory` is not a size. What is returned raises it where there is no GPU; that
            one assistant cannot be planned for is said in its plan.
    """
    size = None if memory is None else read_size(memory, option="--memory")

    def on_gpus(house: House) -> Plan:
        found, unknown = needs.needs_of(house, workspaces, bases=False)
        return plan_of(found, unknown, present_gpus(look, instead=WITHOUT_A_GPU), kind="gpu")

    def in_memory(house: House) -> Plan:
        found, unknown = embedded.needs_of(house, workspaces)
        machine = Gpu(MEMORY, for_engines() if size is None else size)
        return plan_of(found, unknown, (machine,), kind="memory")

    return on_gpus if engine == "turbomind" else in_memory


def present_gpus(look: Look = gpus.look, *, instead: str) -> tuple[Gpu, ...]:
    """The GPUs of this machine with all of their memory, whoever holds some of it now.

    Raises:
        HanlinError: there is none that answers.
    """
    seen = look()
    if not seen.gpus:
        said = seen.trouble or "; ".join(seen.unusable.values())
        raise HanlinError(
            f"There is no GPU that engines could use ({said or 'none is listed'}); {instead}."
        )
    return tuple(Gpu(gpu.index, gpu.total) for gpu in seen.gpus)


def plan_of(
    found: Sequence[N], unknown: Iterable[LeftOut], places: Sequence[Gpu], *, kind: Kind
) -> Plan:
    """Who is at home where, who is let in when others leave, and who never can be."""
    together = fit(found, places)
    out = (*unknown, *(left for left in together.left_out if left.for_good))
    never = {left.name: _sentence(left) for left in out}
    return Plan(
        devices=tuple(Device(place.index, kind, usable(place)) for place in together.gpus),
        needs={need.name: _need(need) for need in found if need.name not in never},
        homes={placed.need.name: _home(placed) for placed in together.placements},
        order=tuple(placed.need.name for placed in together.placements),
        never=never,
    )


def _sentence(left: LeftOut) -> str:
    remedies = f"; {', or '.join(left.remedies)}" if left.remedies else ""
    return f"'{left.name}' cannot be started: {left.why}{remedies}."


def _need(need: Wants) -> Need:
    return Need(
        assistant=need.name,
        devices=need.tp,
        context=need.context,
        weights=need.weights,
        activations=need.fixed - need.context - need.weights,
        least_cache=need.least_cache,
        most_cache=need.most_cache,
    )


def _home(placed: Placement[N]) -> Home:
    # A share is rounded down, by less than what the least cache has in reserve for it.
    return Home(placed.gpus, max(placed.cache, placed.need.least_cache))
