"""What llama.cpp calls each kind of model, and what is different about its tensors.

One table entry per layout; tensor names come from the gguf package's own maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, TensorNameMap, get_tensor_name_map

from convert.dtypes import Floats
from convert.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Layout:
    """One architecture as llama.cpp lays it out."""

    arch: MODEL_ARCH
    permuted: Mapping[str, str] = field(default_factory=dict)
    """Projections whose rows go from Hugging Face's half-and-half rotary order to llama.cpp's
    interleaved one, and the configuration key that counts their heads."""

    @property
    def name(self) -> str:
        return MODEL_ARCH_NAMES[self.arch]

    def heads(self, tensor: str, config: Mapping[str, Any]) -> int | None:
        """In how many heads the rows of a tensor must be reordered; None: it stays as it is."""
        module = tensor.rpartition(".")[0].rpartition(".")[2]
        key = self.permuted.get(module)
        if key is None:
            return None
        return int(config.get(key) or config["num_attention_heads"])


LAYOUTS = {
    "LlamaForCausalLM": Layout(
        MODEL_ARCH.LLAMA,
        permuted={"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"},
    ),
    "Qwen2ForCausalLM": Layout(MODEL_ARCH.QWEN2),
    "Qwen3ForCausalLM": Layout(MODEL_ARCH.QWEN3),
}


def layout_of(config: Mapping[str, Any]) -> Layout:
    """The layout of a model by its `architectures`.

    Raises:
        UnsupportedError: there is no table entry for it, or it uses what the entry does not cover.
    """
    names = config.get("architectures") or []
    for name in names:
        if name in LAYOUTS:
            return LAYOUTS[name]
    raise UnsupportedError(
        f"The architecture {', '.join(names) or 'of this model'} cannot be written for llama.cpp "
        f"yet; known are {', '.join(LAYOUTS)}."
    )


def names_of(layout: Layout, config: Mapping[str, Any]) -> TensorNameMap:
    """The gguf package's map from Hugging Face's tensor names to llama.cpp's."""
    return get_tensor_name_map(layout.arch, int(config["num_hidden_layers"]))


def interleaved(rows: Floats, head_rows: int) -> Floats:
    """Whole heads of rows, each from [first halves, second halves] to [pair, pair, …]."""
    grouped = rows.reshape(-1, 2, head_rows // 2, *rows.shape[1:])
    return np.ascontiguousarray(grouped.swapaxes(1, 2)).reshape(rows.shape)


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding as a configuration declares it."""

    theta: float
    factor: float | None
    """Linear scaling, where there is any."""


def rope_of(config: Mapping[str, Any]) -> Rope:
    """Both ways Hugging Face writes it: `rope_theta` + `rope_scaling`, or `rope_parameters`."""
    found = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = found.get("rope_type") or found.get("type") or "default"
    theta = float(found.get("rope_theta") or config.get("rope_theta") or 10000.0)
    if kind == "default":
        return Rope(theta, None)
    if kind == "linear":
        return Rope(theta, float(found["factor"]))
    raise UnsupportedError(
        f"The model scales its positions by '{kind}', for which there is no rule yet (known: "
        "default, linear)."
    )
