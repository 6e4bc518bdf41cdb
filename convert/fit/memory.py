"""How much of a GPU one engine takes: weights and KV cache exactly, the rest as stated guesses.

Read from safetensors headers and config.json alone; no weight is read and no GPU is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from convert.errors import UnsupportedError
from convert.geometry import NAMES, Cut, Geometry, Place, Role, places, size
from convert.weights.dtypes import STORAGE
from convert.weights.packing import (
    GROUP_SIZES,
    PER_WORD,
    Layer,
    PackingError,
    read_layer,
    scale_rows,
)
from convert.weights.tensors import TensorInfo

COMPUTE_BYTES = 2
"""TurboMind computes in fp16 or bf16 and narrows plain weights to it as it loads them."""

CACHE_BITS = {0: 16, 8: 8, 4: 4}
"""Bits of one cached number, by quant_policy."""

BLOCK_TOKENS = 64
"""`cache_block_seq_len`: a conversation takes whole blocks of the cache."""

PAGE = 32 << 20
"""The cache is taken from the GPU in pages of this size (lmdeploy v0.16
src/turbomind/memory/object.cc); what does not fill a page is not counted on."""

MLA_HEAD_DIM = 576
"""The head size of multi-head latent attention, whose keys and values are one tensor."""

_VECTOR = 8
"""16 bytes of half-precision numbers: what the output layer (lmdeploy 0.18
turbomind/builders/text_model.py) and, so we assume, the sides of feed-forward matrices are padded
to. The latter only a GPU can tell."""

CONTEXT_BYTES = 600 << 20
"""CUDA context with cuBLAS and the kernels' workspaces. An UNMEASURED ESTIMATE, at the upper end of
what people report; to be replaced by a measurement on a GPU."""

NCCL_BYTES = 400 << 20
"""Buffers for ranks to talk to each other, where there are several. An UNMEASURED ESTIMATE."""

SPARE = 0.05
"""Share of the activations added for what the formula leaves out. An UNMEASURED ESTIMATE."""

PREFILL_TOKENS = 8192
"""`max_prefill_token_num`: prompt tokens in one forward pass."""

_LOGIT_BYTES = COMPUTE_BYTES + 4 + 4
"""Of one token of the vocabulary for one conversation: half, float, and an index for sampling."""


def weight_bytes(
    infos: Mapping[str, TensorInfo], geometry: Geometry, *, method: str | None = None, tp: int = 1
) -> int:
    """Bytes of weights on each of `tp` ranks, as TurboMind's loader lays them out.

    Source: lmdeploy 0.18 turbomind/builders (attention.py repeats key and value heads to a multiple
    of tp, ffn.py pads the intermediate size, text_model.py the vocabulary, _base.py splits),
    weight_format.py (4-bit zeros become numbers of the scales' type, and are made up where the
    method has none) and models/*.py (a tied embedding is held twice: once to look up, once to
    multiply with). Held against the loader's own run by the tests.

    Raises:
        UnsupportedError: a layer is missing or of a kind the loader does not take.
    """
    embedding = infos.get(NAMES[geometry.family].embedding)
    if embedding is None:
        raise UnsupportedError("The embedding is missing from the weights.")
    layers = {place: _layer(infos, place, method) for place in places(geometry)}
    linears = sum(
        _linear_bytes(place, layer, geometry, method=method, tp=tp)
        for place, layer in _as_fused(layers).items()
    )
    return linears + embedding.size // tp + _norm_bytes(infos)


def as_awq(infos: Mapping[str, TensorInfo], geometry: Geometry) -> dict[str, TensorInfo] | None:
    """The headers the model would have in 4-bit AWQ; None: its sizes do not allow it.

    The output layer and the embedding stay as they are, as do biases and norms.
    """
    group, found = GROUP_SIZES["awq"][0], dict(infos)
    for place in places(geometry):
        if place.role is Role.head:
            continue
        if place.inputs % group or place.outputs % PER_WORD:
            return None
        plain = found.pop(f"{place.name}.weight", None)
        rows, words = place.inputs // group, place.outputs // PER_WORD
        dtype = plain.dtype if plain and plain.dtype != "F32" else "F16"
        for suffix, kind, shape in (
            (".qweight", "I32", (place.inputs, words)),
            (".scales", dtype, (rows, place.outputs)),
            (".qzeros", "I32", (rows, words)),
        ):
            found[place.name + suffix] = TensorInfo(place.name + suffix, kind, shape)
    return found


def _layer(infos: Mapping[str, TensorInfo], place: Place, method: str | None) -> Layer:
    try:
        return read_layer(infos, place.name, method)
    except PackingError as error:
        raise UnsupportedError(f"{place.name} cannot be loaded: {error}.") from error


def _as_fused(layers: Mapping[Place, Layer]) -> dict[Place, Layer]:
    """Query, key and value become one matrix; where only some are 4-bit all are unpacked."""
    kinds: dict[str, set[bool]] = {}
    for place, layer in layers.items():
        if place.role.is_qkv:
            kinds.setdefault(place.block, set()).add(layer.scales is None)
    return {
        place: Layer(layer.inputs, layer.outputs, layer.bias)
        if place.role.is_qkv and len(kinds[place.block]) > 1
        else layer
        for place, layer in layers.items()
    }


def _linear_bytes(
    place: Place, layer: Layer, geometry: Geometry, *, method: str | None, tp: int
) -> int:
    groups = scale_rows(layer, method)
    inputs, outputs = _padded(place, layer, geometry, groups=groups, tp=tp)
    if layer.scales is None:
        held = inputs * outputs * COMPUTE_BYTES
    else:
        rows = -(-inputs // (layer.inputs // groups))
        parameters = 2 * rows * outputs * STORAGE[layer.scales.dtype].itemsize
        held = inputs * outputs // 2 + parameters
    if layer.bias is None:
        return held // tp
    number = COMPUTE_BYTES if layer.scales is None else STORAGE[layer.bias.dtype].itemsize
    shared = tp if place.role.cut is Cut.outputs else 1
    return held // tp + outputs * number // shared


def _padded(
    place: Place, layer: Layer, geometry: Geometry, *, groups: int, tp: int
) -> tuple[int, int]:
    """Inputs and outputs as the ranks hold them together."""
    inputs, outputs = layer.inputs, layer.outputs
    repeated = (_up(geometry.kv_heads, tp) - geometry.kv_heads) * geometry.head_dim
    unit = math.lcm(_VECTOR, layer.inputs // groups if groups else 1) * tp
    match place.role:
        case Role.key | Role.value:
            return inputs, outputs + repeated
        case Role.fused:
            return inputs, outputs + 2 * repeated
        case Role.down:
            return _up(inputs, unit), outputs
        case Role.gate | Role.up:
            return inputs, _up(outputs, unit)
        case Role.head if tp > 1:
            return inputs, _up(outputs, _VECTOR * tp)
        case _:
            return inputs, outputs


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _norm_bytes(infos: Mapping[str, TensorInfo]) -> int:
    """Norms are held by every rank, in the type they are stored in."""
    return sum(
        info.size
        for name, info in infos.items()
        if len(info.shape) == 1 and name.endswith("norm.weight")
    )


def kv_bytes_per_token(config: Mapping[str, Any], bits: int = 16, *, tp: int = 1) -> int:
    """Bytes one token takes in the cache of each rank, kept in 16, 8 or 4 bits (`CACHE_BITS`).

    layers * KV heads * 2 * (head size * bits / 8 + parameters), where a quantised cache keeps a
    scale and a zero of 16 bits for every head of every token. Key-value heads fewer than ranks are
    repeated; multi-head latent attention keeps one tensor for keys and values. llama.cpp's cache
    at 16 bits is equal.
    Source: lmdeploy v0.16 src/turbomind/models/llama/unified_attention_layer.cc:150-171 and
    src/turbomind/kernels/attention/block.h:152-176.

    Raises:
        UnsupportedError: the configuration lacks one of these sizes.
    """
    heads = size(config, "num_attention_heads")
    kv_heads = size(config, "num_key_value_heads", heads)
    head_dim = config.get("head_dim") or size(config, "hidden_size") // heads
    parameters = 0 if bits == CACHE_BITS[0] else 2 * COMPUTE_BYTES
    kept = 1 if head_dim == MLA_HEAD_DIM else 2
    per_head = head_dim * bits // 8 + parameters
    return size(config, "num_hidden_layers") * (_up(kv_heads, tp) // tp) * kept * per_head


def context_bytes(tp: int = 1) -> int:
    """What a rank takes before the first weight is loaded: an unmeasured estimate."""
    return CONTEXT_BYTES + (NCCL_BYTES if tp > 1 else 0)


def activation_bytes(
    geometry: Geometry, *, max_batch_size: int, tp: int = 1, prefill: int = PREFILL_TOKENS
) -> int:
    """What a rank takes after the cache: AN ESTIMATE, never measured on a GPU here.

    Activations of one forward pass over `prefill` prompt tokens and one token of each running
    conversation, and logits of the running ones. Source of the terms: lmdeploy v0.16
    src/turbomind/turbomind.cc:173-179, language_model.cc:176-209 and sampling.cc:109; what of it is
    alive at once is our reading, hence `SPARE`.
    """
    heads = (geometry.heads + 2 * _up(geometry.kv_heads, tp)) * geometry.head_dim
    width = 2 * geometry.hidden + (2 * _up(geometry.intermediate, tp) + heads) // tp
    activations = (prefill + max_batch_size) * width * COMPUTE_BYTES
    logits = max_batch_size * geometry.vocab * _LOGIT_BYTES
    return math.ceil((activations + logits) * (1 + SPARE))


def cache_bytes(per_token: int, tokens: int) -> int:
    """The cache that holds `tokens` tokens, in whole blocks and pages."""
    return _up(per_token * _up(tokens, BLOCK_TOKENS), PAGE)


def tokens_held(per_token: int, cache: int) -> int:
    """How many tokens a cache of that many bytes holds."""
    usable = cache // PAGE * PAGE
    return usable // (per_token * BLOCK_TOKENS) * BLOCK_TOKENS
