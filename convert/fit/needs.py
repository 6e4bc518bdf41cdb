"""What each assistant's TurboMind engine takes of a GPU, from its workspace or from its base.

A workspace that is built is what will be served, so its headers count. Without one the base's do,
and where the declaration asks for 4 bits, the headers the base would have in 4 bits. A base on a
hub that has not been fetched is not here to be read, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistants import Assistant, House
from convert.errors import ConvertError, UnsupportedError
from convert.fetch.fetcher import Fetcher
from convert.fit.choice import LeftOut, Need
from convert.fit.memory import (
    CACHE_BITS,
    activation_bytes,
    as_awq,
    context_bytes,
    kv_bytes_per_token,
    weight_bytes,
)
from convert.geometry import Geometry, read_geometry
from convert.model_folder import read_json
from convert.progress import Unwatched
from convert.safetensors_files import SafetensorsFolder
from convert.tensors import TensorInfo

_CACHE = ".cache"


@dataclass(frozen=True, slots=True)
class Model:
    """The headers and the config of what an assistant is to serve."""

    source: str
    config: Mapping[str, Any]
    geometry: Geometry
    infos: Mapping[str, TensorInfo]
    method: str | None


def needs_of(house: House, workspaces: Path) -> tuple[tuple[Need, ...], tuple[LeftOut, ...]]:
    """What each assistant needs, and which ones that cannot be said of."""
    fetcher = Fetcher(workspaces / _CACHE, Unwatched())
    needs, unknown = [], []
    for assistant in house:
        if assistant.upstreams:
            unknown.append(LeftOut(assistant.name, "its engines run elsewhere (upstreams)"))
            continue
        try:
            needs.append(need_of(assistant, _model(assistant, house.folder, workspaces, fetcher)))
        except ConvertError as error:
            unknown.append(LeftOut(assistant.name, str(error).removesuffix(".")))
    return tuple(needs), tuple(unknown)


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
        session_len=wanted.session_len,
        max_batch_size=wanted.max_batch_size,
        quant_policy=wanted.quant_policy,
        source=model.source,
        kv_by_policy=policies,
        awq_weights=weight_bytes(in_4_bits, geometry, method="awq", tp=wanted.tp)
        if in_4_bits
        else None,
    )


def _model(assistant: Assistant, folder: Path, workspaces: Path, fetcher: Fetcher) -> Model:
    built = workspaces / assistant.name / "turbomind"
    if (built / "manifest.json").exists():
        return read_model(built, f"workspace {built}")
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
