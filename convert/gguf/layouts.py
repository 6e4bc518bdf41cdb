"""What llama.cpp calls each kind of model, and what is different about its tensors.

One table entry per layout; tensor names come from the gguf package's own maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, TensorNameMap, get_tensor_name_map

from convert.errors import UnsupportedError
from convert.weights.dtypes import Floats
from convert.weights.tensors import TensorInfo


@dataclass(frozen=True, slots=True)
class Layout:
    """One architecture as llama.cpp lays it out."""

    arch: MODEL_ARCH
    permuted: tuple[str, ...] = ()
    """Projections whose rows go from Hugging Face's half-and-half rotary order to llama.cpp's
    interleaved one."""
    fused: str | None = None
    """A projection that holds, for one group of queries after the other, the rows of its queries,
    of its key and of its value."""
    divisors: bool = False
    """Whether llama.cpp reads by how much each frequency of the positions is divided."""

    @property
    def name(self) -> str:
        return MODEL_ARCH_NAMES[self.arch]

    def is_permuted(self, tensor: str) -> bool:
        """Whether the rows of each head of this tensor must be reordered."""
        return tensor.rpartition(".")[0].rpartition(".")[2] in self.permuted

    def parts(self, info: TensorInfo, config: Mapping[str, Any]) -> list[tuple[str, Rows | None]]:
        """The tensors one tensor is to llama.cpp, by Hugging Face's names for them."""
        before, _, after = info.name.rpartition(f"attention.{self.fused}.")
        if not self.fused or not before:
            return [(info.name, None)]
        heads = int(config["num_attention_heads"])
        queries = heads // int(config.get("num_key_value_heads") or heads)
        head = head_dim_of(config)
        period = (queries + 2) * head
        places = {"q": (0, queries * head), "k": (queries * head, head), "v": (period - head, head)}
        return [
            (f"{before}self_attn.{what}_proj.{after}", Rows(period, *place))
            for what, place in places.items()
        ]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a tensor: out of every `period` of them `take`, from `offset` on."""

    period: int
    offset: int
    take: int


_LLAMA = ("q_proj", "k_proj")

LAYOUTS = {
    "LlamaForCausalLM": Layout(MODEL_ARCH.LLAMA, permuted=_LLAMA, divisors=True),
    "InternLM2ForCausalLM": Layout(MODEL_ARCH.LLAMA, permuted=_LLAMA, fused="wqkv", divisors=True),
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
            _refuse_more_than_the_layout(name, config)
            return LAYOUTS[name]
    raise UnsupportedError(
        f"The architecture {', '.join(names) or 'of this model'} cannot be written for llama.cpp "
        f"yet; known are {', '.join(LAYOUTS)}."
    )


def _refuse_more_than_the_layout(name: str, config: Mapping[str, Any]) -> None:
    if config.get("use_sliding_window"):
        raise UnsupportedError(f"The {name} attends to a sliding window, which is not written yet.")
    if name == "Qwen3ForCausalLM" and config.get("attention_bias"):
        raise UnsupportedError(f"The {name} has attention biases, which llama.cpp does not read.")
    if (act := config.get("hidden_act", "silu")) != "silu":
        raise UnsupportedError(f"The {name} uses {act} where llama.cpp computes silu.")


def head_dim_of(config: Mapping[str, Any]) -> int:
    """How wide an attention head is."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def names_of(layout: Layout, config: Mapping[str, Any]) -> TensorNameMap:
    """The gguf package's map from Hugging Face's tensor names to llama.cpp's."""
    return get_tensor_name_map(layout.arch, int(config["num_hidden_layers"]))


def interleaved(rows: Floats, head_rows: int) -> Floats:
    """Whole heads of rows, each from [first halves, second halves] to [pair, pair, …]."""
    grouped = rows.reshape(-1, 2, head_rows // 2, *rows.shape[1:])
    return np.ascontiguousarray(grouped.swapaxes(1, 2)).reshape(rows.shape)


def halved(rows: Floats, head_rows: int) -> Floats:
    """Whole heads of rows, from [pair, pair, …] back to [first halves, second halves]."""
    grouped = rows.reshape(-1, head_rows // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(grouped.swapaxes(1, 2)).reshape(rows.shape)
