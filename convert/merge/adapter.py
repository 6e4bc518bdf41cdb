"""Reads a PEFT adapter folder: what its configuration claims and which tensors it brings.

It knows nothing of a base; whether the two belong together is decided in `edits`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convert.errors import AdapterError, DamagedError
from convert.weights.model_folder import opened, read_json
from convert.weights.tensors import TensorSource

CONFIG = "adapter_config.json"

Part = Literal["a", "b", "magnitude", "bias", "whole"]

_PARTS: dict[str, Part] = {
    "lora_A": "a",
    "lora_embedding_A": "a",
    "lora_B": "b",
    "lora_embedding_B": "b",
    "lora_magnitude_vector": "magnitude",
}
_LORA = re.compile(
    rf"(?P<module>.+)\.(?P<part>{'|'.join(_PARTS)})(?:\.default)?(?P<leaf>\.weight|\.bias)?"
)
_NEVER_MERGED = {
    "trainable_token_indices": "trains single tokens",
    "target_parameters": "adapts bare parameters",
    "layer_replication": "repeats layers",
    "alora_invocation_tokens": "is an activated LoRA, which depends on the prompt",
    "use_qalora": "is a QALoRA",
    "use_bdlora": "is a block-diagonal LoRA",
    "velora_config": "is a VeLoRA",
    "monteclora_config": "is a MonteCLoRA",
    "arrow_config": "routes between adapters (Arrow)",
    "kasa_config": "is a KaSA",
    "ensure_weight_tying": "ties adapters of tied embeddings",
    "megatron_config": "was trained in Megatron",
}
_CHANGED_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor of an adapter: what it is, and to which module (or whole tensor) it belongs."""

    key: str
    target: str
    part: Part
    embedding: bool = False


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The part of `adapter_config.json` that a merge depends on."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    dora: bool
    fan_in_fan_out: bool

    def rank_of(self, module: str) -> int:
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    def scale_of(self, module: str) -> float:
        """What the product of the two factors is multiplied by."""
        alpha, rank = _by_pattern(self.alpha_pattern, module, self.alpha), self.rank_of(module)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


@dataclass(frozen=True, slots=True)
class Adapter:
    """An open adapter."""

    name: str
    """What errors call it."""
    config: AdapterConfig
    pieces: tuple[Piece, ...]
    tensors: TensorSource


@contextmanager
def open_adapter(folder: Path, name: str | None = None) -> Iterator[Adapter]:
    """The adapter in a folder, its tensors held open for as long as the `with` lasts; `name` is
    what it was given as, where that is not the folder.

    Raises:
        AdapterError: it is of a kind that cannot be merged into weights.
        DamagedError: its files are not what they claim to be.
    """
    config = read_config(folder)
    with opened(folder) as tensors:
        pieces = tuple(_piece(folder, key) for key in tensors.infos)
        yield Adapter(name or str(folder), config, pieces, tensors)


def read_config(folder: Path) -> AdapterConfig:
    """The adapter's configuration, refused by name where a merge could not follow it."""
    path = folder / CONFIG
    found = read_json(path)
    if (kind := found.get("peft_type")) != "LORA":
        raise AdapterError(f"{path}: peft_type is {kind}; only LORA adapters can be merged.")
    for key, what in _NEVER_MERGED.items():
        if found.get(key):
            raise AdapterError(f"{path}: the adapter {what} ({key}), which cannot be merged.")
    start = str(found.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGED_BASE):
        raise AdapterError(
            f"{path}: the adapter was started from {start}, which also changed the base; save it "
            "with PEFT's path_initial_model_for_weight_conversion first."
        )
    return _config(path, found)


def _config(path: Path, found: dict[str, Any]) -> AdapterConfig:
    try:
        return AdapterConfig(
            rank=int(found["r"]),
            alpha=float(found["lora_alpha"]),
            rank_pattern=dict(found.get("rank_pattern") or {}),
            alpha_pattern=dict(found.get("alpha_pattern") or {}),
            rslora=bool(found.get("use_rslora")),
            dora=bool(found.get("use_dora")),
            fan_in_fan_out=bool(found.get("fan_in_fan_out")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(path, f"is not a LoRA configuration ({error}).") from error


def _by_pattern(pattern: Mapping[str, float], module: str, otherwise: float) -> float:
    """PEFT's rule: the first pattern that matches the end of the module's name."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return otherwise


def _piece(folder: Path, key: str) -> Piece:
    name = key.removeprefix("base_model.model.")
    found = _LORA.fullmatch(name)
    if found:
        part = _PARTS[found["part"]]
        if found["leaf"] == ".bias":
            if part != "b":
                raise AdapterError(f"{folder}: there is no rule for the tensor {key}.")
            part = "bias"
        return Piece(key, found["module"], part, embedding="embedding" in found["part"])
    if "lora_" in name:
        raise AdapterError(f"{folder}: there is no rule for the tensor {key}.")
    whole = re.sub(r"\.(base_layer|modules_to_save(\.default)?|original_module)\.", ".", name)
    return Piece(key, whole, "whole")
