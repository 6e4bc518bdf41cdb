"""What each assistant's TurboMind engine takes of a GPU, from its workspace or from its base.

A workspace that is built is what will be served, so its headers count. Without one the base's do,
and where the declaration asks for 4 bits, the headers the base would have in 4 bits. A base on a
hub that has not been fetched is not here to be read, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from assistants import Assistant, House
from assistants.schema import Start
from convert.errors import ConvertError, UnsupportedError
from convert.fetch.fetcher import Fetcher
from convert.fit.choice import LeftOut, Rank
from convert.fit.memory import (
    CACHE_BITS,
    activation_bytes,
    as_awq,
    context_bytes,
    kv_bytes_per_token,
    weight_bytes,
)
from convert.fit.need import Need
from convert.geometry import Geometry, read_geometry
from convert.positions import length
from convert.progress import Unwatched
from convert.weights.model_folder import read_json
from convert.weights.safetensors_files import SafetensorsFolder
from convert.weights.tensors import TensorInfo
from convert.workspace import CACHE, MANIFEST, place

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Model:
    """The headers and the config of what an assistant is to serve."""

    source: str
    config: Mapping[str, Any]
    geometry: Geometry
    infos: Mapping[str, TensorInfo]
    method: str | None


def needs_of(
    house: House, workspaces: Path, *, bases: bool = True
) -> tuple[tuple[Need, ...], tuple[LeftOut, ...]]:
    """What each assistant needs, and which ones that cannot be said of.

    Without `bases` only what is built counts, as it does when engines are about to be started.
    """
    fetcher = Fetcher(workspaces / CACHE, Unwatched()) if bases else None

    def read(assistant: Assistant) -> Need:
        return need_of(assistant, _model(assistant, house.folder, workspaces, fetcher))

    found = [readable(assistant, read) for assistant in house]
    needs = tuple(one for one in found if isinstance(one, Need))
    return needs, tuple(one for one in found if isinstance(one, LeftOut))


def readable(assistant: Assistant, read: Callable[[Assistant], N]) -> N | LeftOut:
    """What it needs, or why that cannot be said."""
    if assistant.upstreams:
        return LeftOut(assistant.name, "its engines run elsewhere (upstreams)")
    try:
        return read(assistant)
    except ConvertError as error:
        return LeftOut(assistant.name, str(error).removesuffix("."))
    except OSError as error:
        return LeftOut(assistant.name, f"{error.filename} cannot be read: {error.strerror}")


def need_of(assistant: Assistant, model: Model) -> Need:
    """What one rank of its engine takes, with the settings the declaration has now.

    Raises:
        UnsupportedError: a model whose layers are not known here.
    """
    wanted, geometry = assistant.turbomind, model.geometry
    in_4_bits = as_awq(model.infos, geometry) if model.method is None else None
    policies = {
        policy: kv_bytes_per_token(model.config, bits, tp=wanted.tp)
        for policy, bits in CACHE_BITS.items()
    }
    return Need(
        name=assistant.name,
        tp=wanted.tp,
        weights=weight_bytes(model.infos, geometry, method=model.method, tp=wanted.tp),
        context=context_bytes(wanted.tp),
        activations=activation_bytes(geometry, max_batch_size=wanted.max_batch_size, tp=wanted.tp),
        kv_per_token=policies[wanted.quant_policy],
        session_len=length(assistant, "turbomind", model.config),
        max_batch_size=wanted.max_batch_size,
        quant_policy=wanted.quant_policy,
        source=model.source,
        kv_by_policy=policies,
        awq_weights=weight_bytes(in_4_bits, geometry, method="awq", tp=wanted.tp)
        if in_4_bits
        else None,
        rank=rank_of(assistant),
    )


def rank_of(assistant: Assistant) -> Rank:
    """Who is placed first: what never leaves, then what starts with the house."""
    if assistant.pinned:
        return Rank.pinned
    return Rank.at_once if assistant.start is Start.at_once else Rank.on_demand


def _model(assistant: Assistant, folder: Path, workspaces: Path, fetcher: Fetcher | None) -> Model:
    built = place(workspaces, assistant.name, "turbomind")
    if (built / MANIFEST).exists():
        return read_model(built, f"workspace {built}")
    if fetcher is None:
        raise not_built(assistant, built)
    base = fetcher.here(assistant.model.base, folder)
    if base is None:
        raise UnsupportedError(
            f"its base {assistant.model.base} is not on this machine and there is no workspace in "
            f"{built}; build it with hanlin convert {assistant.name} --engine turbomind"
        )
    model = read_model(base, f"base {assistant.model.base}")
    if assistant.turbomind.quantize == "awq" and model.method is None:
        in_4_bits = as_awq(model.infos, model.geometry)
        if in_4_bits is None:
            raise UnsupportedError(f"{model.source} cannot be 4-bit AWQ: its sizes are not of 128")
        source = f"{model.source}, as AWQ"
        return Model(source, model.config, model.geometry, in_4_bits, "awq")
    return model


def not_built(assistant: Assistant, folder: Path) -> UnsupportedError:
    """The sentence for a workspace that is not there."""
    return UnsupportedError(
        f"it has no workspace in {folder}; "
        f"build it with hanlin convert {assistant.name} --engine {folder.name}"
    )


def read_model(folder: Path, source: str) -> Model:
    """A model folder by its headers.

    Raises:
        ConvertError: it cannot be read, or is of a layout that is not known here.
    """
    if not folder.is_dir():
        raise UnsupportedError(f"{source} is a single file; TurboMind loads folders")
    config = read_json(folder / "config.json")
    with SafetensorsFolder(folder) as opened:
        infos = dict(opened.infos)
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    return Model(source, config, read_geometry(config), infos, method)
