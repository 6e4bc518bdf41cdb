"""Reads a GGUF file as a Hugging Face model: its configuration, and its tensors by rows.

Quantised tensors are taken back to fp16 (by the gguf package's own rules) as they are read; what
the quantisation lost stays lost.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from convert.errors import DamagedError, UnsupportedError
from convert.gguf.layouts import LAYOUTS, Layout, halved, names_of
from convert.gguf.rope import DIVISORS, declared
from convert.weights.dtypes import TORCH_NAMES, Floats, Raw, encode
from convert.weights.safetensors_files import read_into
from convert.weights.tensors import TensorInfo

_PLAIN = {
    GGMLQuantizationType.F32: "F32",
    GGMLQuantizationType.F16: "F16",
    GGMLQuantizationType.BF16: "BF16",
}
_WHOLE = ("model.embed_tokens", "model.norm", "lm_head")
_LAYER = (
    "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
    "self_attn.q_norm", "self_attn.k_norm", "self_attn.o_proj", "post_attention_layernorm",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one tensor lies in the file, and in which form."""

    kind: GGMLQuantizationType
    offset: int
    row_bytes: int
    head_rows: int | None


class GgufFile:
    """The tensors of a GGUF file under Hugging Face's names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields, stored = _parsed(path)
        self.layout, self._architecture = _layout(path, self.fields)
        self.config = self._config(stored)
        kinds = {place.kind for info, place in stored.values() if len(info.shape) > 1}
        self.dtype = _PLAIN.get(next(iter(kinds)), "F16") if len(kinds) == 1 else "F16"
        self.quantised = tuple(sorted(kind.name for kind in kinds - set(_PLAIN)))
        self.config["torch_dtype"] = TORCH_NAMES[self.dtype]
        self.infos: Mapping[str, TensorInfo] = {}
        self._places: dict[str, _Place] = {}
        self._name(stored)
        self._fd = os.open(path, os.O_RDONLY)

    def read(self, name: str, start: int, stop: int) -> Raw:
        place, info = self._places[name], self.infos[name]
        heads = place.head_rows or 1  # a head's rows are in another order: it is read as a whole
        first, last = start // heads * heads, -(-stop // heads) * heads
        raw = np.empty((last - first, place.row_bytes), np.uint8)
        read_into(self._fd, raw, place.offset + first * place.row_bytes, self.path)
        values = dequantize(raw, place.kind).reshape(-1, *info.shape[1:])
        if place.head_rows:
            values = halved(values, place.head_rows)[start - first : stop - first]
        return encode(np.ascontiguousarray(values, np.float32), self.dtype)

    def close(self) -> None:
        os.close(self._fd)

    def _config(self, stored: Mapping[str, tuple[TensorInfo, _Place]]) -> dict[str, Any]:
        heads = int(self._of("attention.head_count"))
        width = int(self._of("embedding_length")) // heads
        config: dict[str, Any] = {
            "architectures": [self._architecture],
            "model_type": self.layout.name,
            "hidden_size": int(self._of("embedding_length")),
            "intermediate_size": int(self._of("feed_forward_length")),
            "num_hidden_layers": int(self._of("block_count")),
            "num_attention_heads": heads,
            "num_key_value_heads": int(self._of("attention.head_count_kv", heads)),
            "max_position_embeddings": int(self._of("context_length")),
            "rms_norm_eps": _shortest(self._of("attention.layer_norm_rms_epsilon")),
            "rope_theta": _shortest(self._of("rope.freq_base", 10000.0)),
            "vocab_size": stored["token_embd.weight"][0].rows,
            "tie_word_embeddings": "output.weight" not in stored,
            "attention_bias": "blk.0.attn_q.bias" in stored,
            "hidden_act": "silu",
        }
        config["head_dim"] = int(self._of("attention.key_length", width))
        for role in ("bos", "eos"):
            if (token := self.fields.get(f"tokenizer.ggml.{role}_token_id")) is not None:
                config[f"{role}_token_id"] = int(token)
        divided = self._divided(stored)
        if scaling := declared(self.path, self._of, config["rope_theta"], divided):
            config["rope_scaling"] = scaling
        return config

    def _divided(self, stored: Mapping[str, tuple[TensorInfo, _Place]]) -> Floats | None:
        if DIVISORS not in stored:
            return None
        info, place = stored[DIVISORS]
        raw = np.empty(info.shape[0] * place.row_bytes, np.uint8)
        with self.path.open("rb") as file:
            read_into(file.fileno(), raw, place.offset, self.path)
        return dequantize(raw, place.kind)

    def _of(self, key: str, otherwise: Any = None) -> Any:
        value = self.fields.get(f"{self.layout.name}.{key}", otherwise)
        if value is None:
            raise DamagedError(self.path, f"does not say {self.layout.name}.{key}.")
        return value

    def _name(self, stored: Mapping[str, tuple[TensorInfo, _Place]]) -> None:
        names = names_of(self.layout, self.config)
        layers = range(self.config["num_hidden_layers"])
        modules = [*_WHOLE, *(f"model.layers.{i}.{part}" for i in layers for part in _LAYER)]
        infos, rest = {}, {name: at for name, at in stored.items() if name != DIVISORS}
        for name in (f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias")):
            theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if theirs is None or theirs not in rest:
                continue
            info, place = rest.pop(theirs)
            head = self.config["head_dim"] if self.layout.is_permuted(name) else None
            infos[name] = TensorInfo(name, self.dtype, info.shape)
            self._places[name] = _Place(place.kind, place.offset, place.row_bytes, head)
        if rest:
            raise UnsupportedError(
                f"{self.path}: there is no rule for the tensor {next(iter(rest))} of a "
                f"{self.layout.name} model."
            )
        self.infos = infos


def _layout(path: Path, fields: Mapping[str, Any]) -> tuple[Layout, str]:
    found = fields.get("general.architecture")
    for name, layout in LAYOUTS.items():
        if MODEL_ARCH_NAMES[layout.arch] == found and layout.fused is None:
            return layout, name
    known = sorted({layout.name for layout in LAYOUTS.values()})
    raise UnsupportedError(
        f"{path}: a GGUF file of the architecture {found}; known are {', '.join(known)}."
    )


def _parsed(path: Path) -> tuple[dict[str, Any], dict[str, tuple[TensorInfo, _Place]]]:
    """Everything but the tensors' data; the reader fails where a tensor lies behind the end."""
    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = list(reader.tensors)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise DamagedError(path, f"is not a whole GGUF file ({error}).") from error
    stored = {}
    for tensor in tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        rows = shape[0] if len(shape) > 1 else math.prod(shape)
        place = _Place(tensor.tensor_type, int(tensor.data_offset), tensor.n_bytes // rows, None)
        stored[tensor.name] = (TensorInfo(tensor.name, "F32", shape), place)
    if "token_embd.weight" not in stored:
        raise DamagedError(path, "has no token embeddings.")
    return fields, stored


def _shortest(value: Any) -> float:
    """A number that was stored in fp32, as somebody wrote it: 1e-05 and not 9.99999974e-06."""
    return float(str(np.float32(value)))


@contextmanager
def opened_gguf(path: Path) -> Iterator[GgufFile]:
    """The file, held open for as long as the `with` lasts.

    Raises:
        DamagedError: it is not a GGUF file, or not a whole one.
        UnsupportedError: it holds a kind of model there is no rule for.
    """
    file = GgufFile(path)
    try:
        yield file
    finally:
        file.close()


def quantised_as(path: Path) -> tuple[str, ...]:
    """The quantised forms of matrices in a GGUF file; none where nothing was lost."""
    with opened_gguf(path) as file:
        return file.quantised
