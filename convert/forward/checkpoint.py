"""A model folder read one decoder layer at a time, in fp32, whether it is quantised or not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convert.errors import DamagedError, UnsupportedError
from convert.forward.decoder import Decoder, Layer, Norms
from convert.forward.int4 import dequantise
from convert.forward.layout import AwqGemm, CompressedTensors, Layout
from convert.forward.rope import rope_table
from convert.geometry import NAMES, Geometry, Role, architecture, read_geometry
from convert.weights.dtypes import Raw, decode, is_finite
from convert.weights.model_folder import opened, read_json
from convert.weights.tensors import TensorInfo, TensorSource

FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}

_KNOWN = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "InternLM2ForCausalLM")
_NORMS = {
    "llama": ("input_layernorm", "post_attention_layernorm"),
    "internlm2": ("attention_norm", "ffn_norm"),
}
_HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
_HEAD_ROWS = 8192
"""Rows of the output layer that are in memory together."""
_FINAL_NORM = "model.norm.weight"
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_COMPUTED = "rotary_emb.inv_freq"
"""Old checkpoints carry this; it follows from the configuration."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An open model."""

    folder: Path
    config: Mapping[str, Any]
    geometry: Geometry
    source: TensorSource
    layout: Layout | None
    """How its layers are quantised; None: they are not."""

    def decoder(self, positions: int, device: str) -> Decoder:
        """What its layers have in common, for windows of up to `positions` tokens."""
        sliding = self.config.get("sliding_window")
        if self.config.get("use_sliding_window") and sliding and positions > sliding:
            raise UnsupportedError(
                f"{self.folder} attends over {sliding} tokens; take windows no longer than that."
            )
        cos, sin = rope_table(self.config, self.geometry.head_dim, positions)
        eps = float(self.config.get("rms_norm_eps", 1e-6))
        return Decoder(self.geometry, eps, (cos.to(device), sin.to(device)))

    @property
    def linears(self) -> dict[str, Role]:
        """The linear layers of a decoder layer: name within the layer, and what it does."""
        names = NAMES[self.geometry.family]
        return {name: role for part in (names.attention, names.feed_forward)
                for role, name in part.items()}  # fmt: skip

    @property
    def norms(self) -> tuple[str, ...]:
        """Names of the norms of a decoder layer, attention's first."""
        extra = _HEAD_NORMS if architecture(self.config) == "Qwen3ForCausalLM" else ()
        return (*_NORMS[self.geometry.family], *extra)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The matrices that would be quantised, by their full names."""
        return {
            name: self.source.infos[name].shape
            for index in range(self.geometry.layers)
            for name in (f"{prefix(index)}{linear}.weight" for linear in self.linears)
        }

    def outside(self) -> list[TensorInfo]:
        """Every tensor that belongs to no decoder layer, and is kept as it is."""
        return [
            info for name, info in self.source.infos.items()
            if not _LAYER.fullmatch(name) and not name.endswith(_COMPUTED)
        ]  # fmt: skip

    def layer_bytes(self, index: int) -> int:
        """What a decoder layer takes in the folder."""
        infos = self.source.infos.items()
        return sum(info.size for name, info in infos if name.startswith(prefix(index)))

    def read(self, name: str) -> Tensor:
        """A whole tensor; floats as fp32."""
        info = self.source.infos.get(name)
        if info is None:
            raise UnsupportedError(f"{self.folder} has no tensor {name}.")
        raw = self.source.read(name, 0, info.rows)
        if not is_finite(raw, info.dtype):
            raise DamagedError(self.folder, f"{name} holds values that are not finite numbers.")
        return as_tensor(raw, info.dtype).reshape(info.shape)

    def layer(self, index: int, device: str) -> Layer:
        """One decoder layer; packed weights are unpacked, fused projections taken apart."""
        weights: dict[Role, Tensor] = {}
        biases: dict[Role, Tensor] = {}
        for name, role in self.linears.items():
            module = f"{prefix(index)}{name}"
            weights |= self.apart(role, self._weight(module).to(device))
            if f"{module}.bias" in self.source.infos:
                biases |= self.apart(role, self.read(f"{module}.bias").to(device))
        norms = [self.read(f"{prefix(index)}{name}.weight").to(device) for name in self.norms]
        return Layer(weights, biases, Norms(*norms))

    def _weight(self, module: str) -> Tensor:
        if self.layout is None:
            return self.read(f"{module}.weight")
        stored = {mark: self._stored(f"{module}.{mark}") for mark in self.layout.marks}
        return dequantise(self.layout.unpack(stored))

    def _stored(self, name: str) -> Tensor:
        """A tensor in the format it is stored in."""
        tensor = self.read(name)
        return tensor.to(FLOATS.get(self.source.infos[name].dtype, tensor.dtype))

    def apart(self, role: Role, rows: Tensor) -> dict[Role, Tensor]:
        """What has a row per output, a fused projection's as its three."""
        if role is not Role.fused:
            return {role: rows}
        return dict(zip((Role.query, Role.key, Role.value), split_fused(rows, self.geometry),
                        strict=True))  # fmt: skip

    def embedded(self, tokens: Tensor) -> Tensor:
        """The embeddings of tokens; only the rows that occur are read."""
        name = NAMES[self.geometry.family].embedding
        info = self.source.infos[name]
        unique, places = torch.unique(tokens, return_inverse=True)
        rows = torch.empty(len(unique), self.geometry.hidden)
        for i, token in enumerate(unique.tolist()):
            rows[i] = as_tensor(self.source.read(name, token, token + 1), info.dtype)[0]
        return rows[places]

    def final_norm(self, device: str) -> Tensor:
        return self.read(_FINAL_NORM).to(device)

    def logits(self, states: Tensor) -> Iterator[tuple[int, Tensor]]:
        """What the output layer makes of states (…, hidden), for some tokens of the vocabulary at a
        time, each time with the first of them."""
        for start, rows in self.head():
            yield start, states @ rows.to(states.device).T

    def head(self) -> Iterator[tuple[int, Tensor]]:
        """The output layer in blocks of rows, each with the first token it speaks of."""
        names = NAMES[self.geometry.family]
        name = names.embedding if self.geometry.tied else f"{names.head}.weight"
        info = self.source.infos[name]
        for start in range(0, info.rows, _HEAD_ROWS):
            raw = self.source.read(name, start, min(start + _HEAD_ROWS, info.rows))
            yield start, as_tensor(raw, info.dtype)


def prefix(index: int) -> str:
    """How the names of a layer's tensors begin."""
    return f"model.layers.{index}."


def split_fused(rows: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
    """InternLM2's wqkv (or its bias): for each key head its queries, then key, then value."""
    repeats = geometry.heads // geometry.kv_heads
    groups = rows.reshape(geometry.kv_heads, repeats + 2, geometry.head_dim, *rows.shape[1:])
    parts = groups[:, :repeats], groups[:, repeats : repeats + 1], groups[:, repeats + 1 :]
    query, key, value = (part.flatten(0, 2) for part in parts)
    return query, key, value


def join_fused(query: Tensor, key: Tensor, value: Tensor, geometry: Geometry) -> Tensor:
    """The inverse of `split_fused`, for anything that has a row per output."""
    shape = (geometry.kv_heads, -1, geometry.head_dim)
    heads = [part.reshape(*shape, *part.shape[1:]) for part in (query, key, value)]
    return torch.cat(heads, dim=1).flatten(0, 2)


def as_tensor(raw: Raw, dtype: str) -> Tensor:
    """A raw array as torch sees it, floats widened to fp32."""
    return torch.from_numpy(decode(raw, dtype) if dtype in FLOATS else np.array(raw))


@contextmanager
def open_checkpoint(folder: Path) -> Iterator[Checkpoint]:
    """A model folder, held open for as long as the `with` lasts.

    Raises:
        UnsupportedError: a layout, activation or tensor that the decoder here would get wrong.
    """
    config = read_json(folder / "config.json")
    with opened(folder) as source:
        yield checkpoint_of(folder, config, source)


def checkpoint_of(folder: Path, config: Mapping[str, Any], source: TensorSource) -> Checkpoint:
    """A model whose weights come from any source; `folder` is what errors call it.

    Raises:
        UnsupportedError: as `open_checkpoint`.
    """
    if (name := architecture(config)) not in _KNOWN:
        raise UnsupportedError(
            f"{folder}: {name} cannot be computed here; known are {', '.join(_KNOWN)}."
        )
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise UnsupportedError(
            f"{folder}: the activation {config['hidden_act']} is not known here."
        )
    checkpoint = Checkpoint(folder, config, read_geometry(config), source, _layout(config))
    _refuse_unknown(checkpoint)
    return checkpoint


def _layout(config: Mapping[str, Any]) -> Layout | None:
    found = config.get("quantization_config")
    if not found:
        return None
    known: list[Layout] = [AwqGemm(), CompressedTensors()]
    for layout in known:
        if found.get("quant_method") == layout.config()["quant_method"]:
            return layout
    raise UnsupportedError(
        f"The model is already quantised ({found.get('quant_method')}), which is not read here."
    )


def _refuse_unknown(checkpoint: Checkpoint) -> None:
    """A tensor that the forward pass leaves out would make every figure here wrong."""
    marks = ("weight", "bias", *(checkpoint.layout.marks if checkpoint.layout else ()))
    known = {f"{name}.{mark}" for name in checkpoint.linears for mark in marks}
    known |= {f"{name}.weight" for name in checkpoint.norms}
    for name in checkpoint.source.infos:
        found = _LAYER.fullmatch(name)
        if found and found[2] not in known and not name.endswith(_COMPUTED):
            raise UnsupportedError(
                f"{checkpoint.folder}: there is no rule for the tensor {name} in a "
                f"{architecture(checkpoint.config)}."
            )
