"""Which tensors of a base an adapter changes, and how: decided before a byte is written.

Works on names, shapes and formats alone, so everything that cannot be done is refused here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convert.errors import AdapterError
from convert.merge.adapter import Adapter, Part, Piece
from convert.weights.dtypes import FLOATS
from convert.weights.tensors import TensorInfo, TensorSource, shown

_INPUTS = (
    "model.embed_tokens.weight", "transformer.wte.weight", "model.tok_embeddings.weight",
    "wte.weight", "embed_tokens.weight",
)  # fmt: skip
_OUTPUTS = ("lm_head.weight", "output.weight")
_STORE_TRANSPOSED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
_TRANSPOSED = ("c_attn", "q_attn", "c_proj", "c_fc")
"""Model types whose layers of these names are stored inputs × outputs (transformers' Conv1D)."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """Two factors to add: their names in the adapter, and how their product lies in the file."""

    a: str
    b: str
    scale: float
    transposed: bool
    """The product B·A is added transposed (embeddings, and Conv1D as GPT-2 has it)."""
    magnitude: str | None = None
    """DoRA: each output of the sum is then scaled to this length."""


@dataclass(frozen=True, slots=True)
class Edit:
    """How one tensor of the merged model comes about."""

    origin: str
    """The tensor it starts from: in the base, or in the adapter where `replaced`."""
    replaced: bool = False
    low_rank: LowRank | None = None
    shift: tuple[str, float] | None = None
    """A vector of the adapter to add, and its scale (lora_bias)."""


@dataclass(frozen=True, slots=True)
class Edits:
    """All changes, and what they change in `config.json`."""

    of: Mapping[str, Edit]
    config: Mapping[str, Any]
    added: Mapping[str, str]
    """Tensors the base does not have, and the one of the base that each is shaped like."""


class _Deciding:
    """One base and one adapter being laid side by side."""

    def __init__(self, base: TensorSource, config: Mapping[str, Any], adapter: Adapter) -> None:
        self.base = base.infos
        self.adapter = adapter
        self.infos = adapter.tensors.infos
        self.stores_transposed = config.get("model_type") in _STORE_TRANSPOSED
        self.input = next((name for name in _INPUTS if name in self.base), None)
        stored = next((name for name in _OUTPUTS if name in self.base), None)
        internlm = self.input == "model.tok_embeddings.weight"
        self.output = stored or ("output.weight" if internlm else "lm_head.weight")
        self.tied = self.input is not None and bool(
            config.get("tie_word_embeddings", stored is None)
        )

    def decide(self) -> Edits:
        edits = {}
        whole: dict[str, Piece] = {}
        modules: dict[str, dict[Part, Piece]] = defaultdict(dict)
        for piece in self.adapter.pieces:
            if piece.part == "whole":
                whole[self._known(piece.target, piece)] = piece
            else:
                modules[piece.target][piece.part] = piece
        for name, piece in whole.items():
            self._same_shape(name, piece)
            edits[name] = Edit(piece.key, replaced=True)
        for module, parts in modules.items():
            self._module(module, parts, edits)
        return self._untied(edits)

    def _module(self, module: str, parts: dict[Part, Piece], edits: dict[str, Edit]) -> None:
        first = next(iter(parts.values()))
        name = self._known(f"{module}.weight", first)
        if "a" not in parts or "b" not in parts:
            raise AdapterError(f"{self._where}: {module} has only one of its two LoRA factors.")
        start = edits.get(name, Edit(self._source(name)))
        edits[name] = Edit(start.origin, start.replaced, self._low_rank(module, name, parts))
        if bias := parts.get("bias"):
            self._bias(module, bias, edits)

    def _bias(self, module: str, piece: Piece, edits: dict[str, Edit]) -> None:
        name = f"{module}.bias"
        if name not in self.base:
            raise AdapterError(
                f"{self._where}: it adds a bias to {module} (lora_bias), which has none in this "
                "base and cannot be given one."
            )
        self._same_shape(name, piece)
        start = edits.get(name, Edit(name))
        shift = (piece.key, self.adapter.config.scale_of(module))
        edits[name] = Edit(start.origin, start.replaced, shift=shift)

    def _low_rank(self, module: str, name: str, parts: dict[Part, Piece]) -> LowRank:
        config, shape = self.adapter.config, self._base(name).shape
        a, b = self.infos[parts["a"].key], self.infos[parts["b"].key]
        if len(a.shape) != 2 or len(b.shape) != 2 or len(shape) != 2:
            raise AdapterError(
                f"{self._where}: {module} is not a matrix (base {shown(shape)}, factors "
                f"{shown(a.shape)} and {shown(b.shape)}); only matrices are merged."
            )
        rank = config.rank_of(module)
        if a.shape[0] != rank or b.shape[1] != rank:
            raise AdapterError(
                f"{self._where}: {module} has factors of rank {a.shape[0]} and {b.shape[1]}, its "
                f"adapter_config.json says {rank}."
            )
        product = (b.shape[0], a.shape[1])
        transposed = parts["a"].embedding or self._is_transposed(module, product, shape)
        if (product[::-1] if transposed else product) != shape:
            raise AdapterError(
                f"{self._where} belongs to another base: it changes {name} as "
                f"{shown(product)}, but the base has {shown(shape)}."
            )
        magnitude = self._magnitude(module, product[0], parts)
        return LowRank(a.name, b.name, config.scale_of(module), transposed, magnitude)

    def _is_transposed(self, module: str, product: tuple[int, ...], shape: tuple[int, ...]) -> bool:
        """PEFT corrects `fan_in_fan_out` by the kind of each layer it meets and saves what the last
        one was, so it says little of any one layer; the base says more."""
        if self.stores_transposed and module.rpartition(".")[2] in _TRANSPOSED:
            return True
        return self.adapter.config.fan_in_fan_out and product != shape == product[::-1]

    def _magnitude(self, module: str, outputs: int, parts: dict[Part, Piece]) -> str | None:
        piece = parts.get("magnitude")
        if (piece is not None) != self.adapter.config.dora:
            raise AdapterError(
                f"{self._where}: {module} has {'a' if piece else 'no'} DoRA magnitude, but its "
                f"adapter_config.json says use_dora: {str(self.adapter.config.dora).lower()}."
            )
        if piece is None:
            return None
        info = self.infos[piece.key]
        if math.prod(info.shape) != outputs:
            raise AdapterError(
                f"{self._where}: {module} has a DoRA magnitude of {shown(info.shape)} for "
                f"{outputs} outputs."
            )
        return piece.key

    @property
    def _where(self) -> str:
        return f"The adapter {self.adapter.name}"

    def _known(self, name: str, piece: Piece) -> str:
        """The base's name for a tensor the adapter speaks of; some bases drop the first word."""
        short = name.partition(".")[2]
        for candidate in (name, short):
            if candidate in self.base:
                return candidate
        if self.tied and name == self.output:
            return name
        raise AdapterError(
            f"{self._where} belongs to another base: it changes {name}, which this base does not "
            f"have ({piece.key}, {shown(self.infos[piece.key].shape)})."
        )

    def _source(self, name: str) -> str:
        """Where the values of a tensor come from; a tied output has only its input's."""
        return self.input if self.tied and name == self.output and self.input else name

    def _base(self, name: str) -> TensorInfo:
        info = self.base[self._source(name)]
        if info.dtype not in FLOATS:
            raise AdapterError(
                f"The base stores {name} as {info.dtype}: it is quantised, and an adapter is "
                "merged into the weights it was quantised from."
            )
        return info

    def _same_shape(self, name: str, piece: Piece) -> None:
        base, brought = self._base(name).shape, self.infos[piece.key].shape
        if base != brought:
            raise AdapterError(
                f"{self._where} belongs to another base: it brings {name} as {shown(brought)}, "
                f"but the base has {shown(base)}."
            )

    def _untied(self, edits: dict[str, Edit]) -> Edits:
        """Tied embeddings stay one tensor until an adapter touches either of the two."""
        if not self.tied or self.input is None:
            return Edits(edits, {}, {})
        if not {self.input, self.output} & set(edits):
            return Edits(edits, {}, {})
        edits.setdefault(self.input, Edit(self.input))
        edits.setdefault(self.output, Edit(self.input))
        added = {} if self.output in self.base else {self.output: self.input}
        return Edits(edits, {"tie_word_embeddings": False}, added)


def decide(base: TensorSource, config: Mapping[str, Any], adapter: Adapter | None) -> Edits:
    """What an adapter changes in a base.

    Raises:
        AdapterError: the two do not belong together, or it asks for something unmergeable.
    """
    if adapter is None:
        return Edits({}, {}, {})
    return _Deciding(base, config, adapter).decide()
