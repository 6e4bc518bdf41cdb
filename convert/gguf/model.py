"""Writes a model as one GGUF file for llama.cpp, tensor by tensor in blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

from convert.errors import UnsupportedError, writing
from convert.gguf.kept_tokenizer import read_inside
from convert.gguf.layouts import (
    Layout,
    Rows,
    head_dim_of,
    interleaved,
    layout_of,
    names_of,
)
from convert.gguf.rope import DIVISORS, Rope, context_of, describe, rope_of
from convert.gguf.tokenizer import Vocabulary, read_vocabulary
from convert.weights.dtypes import FLOATS, Floats, Raw, decode, is_finite
from convert.weights.output import HashedFile, Written
from convert.weights.tensors import TensorInfo, TensorSource, blocks, shown

Type = Literal["q8_0", "f16", "f32"]

_TYPES = {
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
}
_Q8_BLOCK = 32
_ALIGNMENT = 32
_OUTPUTS = ("lm_head.weight", "output.weight")


@dataclass(frozen=True, slots=True)
class Target:
    """One tensor as it will stand in the file."""

    name: str
    origin: TensorInfo
    """What it is read from."""
    rows: Rows | None
    """Which rows of that; None: all."""
    kind: GGMLQuantizationType
    head_rows: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        if self.rows is None:
            return self.origin.shape
        return (self.origin.rows // self.rows.period * self.rows.take, *self.origin.shape[1:])

    @property
    def size(self) -> int:
        count = math.prod(self.shape)
        if self.kind is GGMLQuantizationType.Q8_0:
            return count // _Q8_BLOCK * (_Q8_BLOCK + 2)
        return count * (2 if self.kind is GGMLQuantizationType.F16 else 4)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The rows to read, in order, heads never cut."""
        if self.rows is None:
            yield from blocks(self.origin, self.head_rows or 1)
            return
        for start in range(self.rows.offset, self.origin.rows, self.rows.period):
            yield start, start + self.rows.take


def targets(
    source: TensorSource, layout: Layout, config: Mapping[str, Any], kind: Type
) -> list[Target]:
    """What the file will hold; refused by name where there is no rule.

    Raises:
        UnsupportedError: a tensor has no name in this layout, or is quantised already.
    """
    names = names_of(layout, config)
    tied = bool(config.get("tie_word_embeddings"))
    found = []
    for info in source.infos.values():
        if info.name.endswith(".rotary_emb.inv_freq") or (tied and info.name in _OUTPUTS):
            continue  # llama.cpp computes the one, and takes the other from the embeddings
        for part, rows in layout.parts(info, config):
            name = names.get_name(part, try_suffixes=(".weight", ".bias"))
            if name is None or info.dtype not in FLOATS or (rows and info.rows % rows.period):
                why = (
                    "has no place in this layout"
                    if name is None
                    else f"is {info.dtype} {shown(info.shape)}"
                )
                raise UnsupportedError(f"The tensor {info.name} {why} ({layout.name}).")
            head = head_dim_of(config) if layout.is_permuted(part) else None
            found.append(Target(name, info, rows, _kind(info, kind), head))
    return found


def _kind(info: TensorInfo, wanted: Type) -> GGMLQuantizationType:
    """Vectors stay fp32, as llama.cpp wants them; rows that are no multiple of 32 become fp16."""
    if len(info.shape) < 2:
        return GGMLQuantizationType.F32
    if wanted == "q8_0" and _row_length(info) % _Q8_BLOCK:
        return GGMLQuantizationType.F16
    return _TYPES[wanted][0]


def _row_length(info: TensorInfo) -> int:
    length = 1
    for n in info.shape[1:]:
        length *= n
    return length


@dataclass(frozen=True, slots=True)
class Plan:
    """A GGUF file decided on, before any of it is written."""

    layout: Layout
    config: Mapping[str, Any]
    vocabulary: Vocabulary
    rope: Rope
    kind: Type
    targets: list[Target]

    @property
    def count(self) -> int:
        """How many tensors the file will hold: fused ones come apart, and one may be computed."""
        return len(self.targets) + (self.rope.divisors is not None)


def plan(source: TensorSource, config: Mapping[str, Any], base: Path, kind: Type) -> Plan:
    """Everything that can be refused is refused here.

    Raises:
        UnsupportedError: a layout, tokenizer or tensor there is no rule for.
    """
    layout = layout_of(config)
    rope = rope_of(config, head_dim_of(config), takes_divisors=layout.divisors)
    inside = base.is_file()
    vocabulary = read_inside(base) if inside else read_vocabulary(base, int(config["vocab_size"]))
    found = targets(source, layout, config, kind)
    return Plan(layout, config, vocabulary, rope, kind, found)


def write(
    plan: Plan, source: TensorSource, path: Path, *, name: str, advance: Callable[[int], None]
) -> Written:
    """Write the file; `advance` is told the bytes of the source that are done."""
    head = _head(plan, path, name)
    with HashedFile(path, head) as file:
        if plan.rope.divisors is not None:
            file.write(plan.rope.divisors)
            file.write(np.zeros(-plan.rope.divisors.nbytes % _ALIGNMENT, np.uint8))
        for target in plan.targets:
            for start, stop in target.blocks():
                raw = source.read(target.origin.name, start, stop)
                file.write(_converted(target, raw))
                advance((stop - start) * target.origin.row_bytes)
            if rest := -target.size % _ALIGNMENT:
                file.write(np.zeros(rest, np.uint8))
    assert file.written is not None
    return file.written


def _converted(target: Target, raw: Raw) -> Raw:
    values = decode(raw, target.origin.dtype)
    if target.head_rows:
        values = interleaved(values, target.head_rows)
    if target.kind is GGMLQuantizationType.Q8_0:
        return to_q8_0(values)
    if target.kind is GGMLQuantizationType.F32:
        return values
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not is_finite(halves, "F16"):
        raise UnsupportedError(
            f"The tensor {target.origin.name} holds values beyond what fp16 can say; "
            "use llamacpp.type f32 or q8_0."
        )
    return halves


def to_q8_0(values: Floats) -> Raw:
    """Blocks of 32 signed bytes behind one fp16 scale, rounded half away from zero as ggml does."""
    groups = values.reshape(-1, _Q8_BLOCK)
    scale = np.abs(groups).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale == 0, np.float32(0), 1 / scale)
    scaled = groups * inverse
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
    out = np.empty((len(groups), 2 + _Q8_BLOCK), np.uint8)
    out[:, :2] = scale.astype("<f2").view(np.uint8)
    out[:, 2:] = rounded.astype(np.int8).view(np.uint8)
    return out


def _head(plan: Plan, path: Path, name: str) -> bytes:
    """Everything before the tensors' data, written by the gguf package and taken back."""
    scratch = path.with_name(f"{path.name}.head")
    try:
        writer = GGUFWriter(scratch, plan.layout.name)
        _describe(writer, plan, name)
        if (divisors := plan.rope.divisors) is not None:
            writer.add_tensor_info(DIVISORS, divisors.shape, divisors.dtype, divisors.nbytes)
        for target in plan.targets:
            writer.add_tensor_info(
                target.name, target.shape, np.dtype(np.float32), target.size, raw_dtype=target.kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        head = scratch.read_bytes()
    except OSError as error:
        raise writing(scratch, error) from error
    finally:
        scratch.unlink(missing_ok=True)
    return head + bytes(-len(head) % _ALIGNMENT)


def _describe(writer: GGUFWriter, plan: Plan, name: str) -> None:
    config = plan.config
    heads = int(config["num_attention_heads"])
    head_dim = head_dim_of(config)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(_TYPES[plan.kind][1])
    writer.add_quantization_version(2)
    writer.add_context_length(context_of(config, plan.rope))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_rope_dimension_count(head_dim)
    describe(writer, plan.rope)
    writer.add_vocab_size(int(config["vocab_size"]))
    _describe_tokenizer(writer, plan.vocabulary)


def _describe_tokenizer(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.space_first)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    setters = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
        "eot": writer.add_eot_token_id,
    }
    for role, token in vocabulary.special.items():
        setters[role](token)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)
