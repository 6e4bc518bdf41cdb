"""Bytes on a GPU from headers: against published tables here, against the real loader elsewhere."""

from __future__ import annotations

import pytest

from convert.errors import UnsupportedError
from convert.fit.memory import (
    CACHE_BITS,
    PAGE,
    activation_bytes,
    as_awq,
    cache_bytes,
    context_bytes,
    kv_bytes_per_token,
    tokens_held,
    weight_bytes,
)
from convert.geometry import Geometry, places, read_geometry
from convert.weights.packing import PackingError, read_layer
from convert.weights.tensors import TensorInfo

SHAPES = {  # layers, key-value heads, head size; bytes per token at quant_policy 0, 8 and 4
    "internlm2-1.8b": (24, 8, 128, 98304, 50688, 26112),
    "internlm2.5-7b": (32, 8, 128, 131072, 67584, 34816),
    "internlm2-20b": (48, 8, 128, 196608, 101376, 52224),
    "qwen2.5-0.5b": (24, 2, 64, 12288, 6528, 3456),
    "qwen2.5-1.5b": (28, 2, 128, 28672, 14784, 7616),
    "qwen2.5-7b": (28, 4, 128, 57344, 29568, 15232),
    "qwen3-8b": (36, 8, 128, 147456, 76032, 39168),
    "llama2-7b": (32, 32, 128, 524288, 270336, 139264),
    "smollm2-135m": (30, 3, 64, 23040, 12240, 6480),
}


def config(**changes: object) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 64, "vocab_size": 1000, "tie_word_embeddings": False,
    } | changes  # fmt: skip


def headers(geometry: Geometry, kind: str = "BF16") -> dict[str, TensorInfo]:
    """What a 16-bit checkpoint of that shape holds."""
    embedding = (
        "model.embed_tokens.weight" if geometry.family == "llama" else "model.tok_embeddings.weight"
    )
    shapes: dict[str, tuple[int, ...]] = {
        f"{place.name}.weight": (place.outputs, place.inputs) for place in places(geometry)
    }
    shapes[embedding] = (geometry.vocab, geometry.hidden)
    shapes["model.norm.weight"] = (geometry.hidden,)
    return {name: TensorInfo(name, kind, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", SHAPES)
def test_cache_per_token_is_as_published(name: str) -> None:
    layers, heads, size, *published = SHAPES[name]
    shape = config(
        num_hidden_layers=layers,
        num_key_value_heads=heads,
        num_attention_heads=heads,
        head_dim=size,
    )
    assert [kv_bytes_per_token(shape, CACHE_BITS[policy]) for policy in (0, 8, 4)] == published


def test_ranks_share_the_heads_and_repeat_too_few() -> None:
    one = kv_bytes_per_token(config(), 16)
    assert kv_bytes_per_token(config(), 16, tp=2) == one // 2
    assert kv_bytes_per_token(config(), 16, tp=4) == one // 2


def test_latent_attention_keeps_one_tensor() -> None:
    latent = config(num_key_value_heads=1, head_dim=576, num_hidden_layers=1)
    assert kv_bytes_per_token(latent, 16) == 576 * 2


def test_a_tied_embedding_is_held_twice() -> None:
    untied, tied = read_geometry(config()), read_geometry(config(tie_word_embeddings=True))
    assert len(headers(untied)) == len(headers(tied)) + 1
    assert weight_bytes(headers(untied), untied) == weight_bytes(headers(tied), tied)


def test_fp32_weights_are_narrowed_but_what_is_looked_up_is_not() -> None:
    geometry = read_geometry(config())
    half, full = (weight_bytes(headers(geometry, kind), geometry) for kind in ("BF16", "F32"))
    assert full - half == 2 * (1000 * 256 + 256)


def test_ranks_hold_their_part_and_all_of_the_norms() -> None:
    geometry = read_geometry(config(num_key_value_heads=4))
    one, two = (weight_bytes(headers(geometry), geometry, tp=tp) for tp in (1, 2))
    padding = 8 * 256 * 2  # 1000 tokens become 1008
    assert two == (one - 512 + padding) // 2 + 512


def test_ranks_repeat_heads_and_pad_what_they_cannot_share() -> None:
    geometry = read_geometry(config(intermediate_size=500))
    attention = 256 * (256 + 256 + 256 + 256)  # two key and two value heads become four each
    feed_forward = 3 * 256 * 512  # 500 becomes 512: 8 numbers for each of 4 ranks
    ends = 256 * 1024 + 256 * 1000  # the output is padded, what is looked up is not
    expected = (2 * (attention + feed_forward) + ends) * 2 // 4 + 512
    assert weight_bytes(headers(geometry), geometry, tp=4) == expected


@pytest.mark.parametrize(("module", "held"), [("q_proj", 256 * 2 // 4), ("o_proj", 256 * 2)])
def test_a_bias_is_shared_where_the_outputs_are(module: str, held: int) -> None:
    geometry = read_geometry(config())
    plain = headers(geometry)
    name = f"model.layers.0.self_attn.{module}.bias"
    biased = plain | {name: TensorInfo(name, "BF16", (256,))}
    grown = weight_bytes(biased, geometry, tp=4) - weight_bytes(plain, geometry, tp=4)
    assert grown == held


def test_awq_keeps_zeros_as_numbers() -> None:
    geometry = read_geometry(config())
    packed = as_awq(headers(geometry), geometry)
    assert packed is not None
    linear = sum(p.inputs * p.outputs for p in places(geometry)) - 1000 * 256
    rest = 2 * 1000 * 256 * 2 + 512
    expected = linear // 2 + 2 * (linear // 128) * 2 + rest
    assert weight_bytes(packed, geometry, method="awq") == expected


def test_attention_of_mixed_kinds_is_unpacked() -> None:
    geometry = read_geometry(config())
    plain = headers(geometry)
    packed = as_awq(plain, geometry)
    assert packed is not None
    name = "model.layers.0.self_attn.v_proj"
    mixed = {key: info for key, info in packed.items() if not key.startswith(f"{name}.")}
    mixed[f"{name}.weight"] = plain[f"{name}.weight"]
    grown = weight_bytes(mixed, geometry, method="awq") - weight_bytes(
        packed, geometry, method="awq"
    )
    cells = 256 * (256 + 128 + 128)
    assert grown == cells * 2 - (cells // 2 + cells // 128 * 4)


@pytest.mark.parametrize(("kind", "scales"), [("BF16", "BF16"), ("F16", "F16"), ("F32", "F16")])
def test_scales_are_of_the_weights_type_or_half(kind: str, scales: str) -> None:
    geometry = read_geometry(config())
    packed = as_awq(headers(geometry, kind), geometry)
    assert packed is not None
    assert {info.dtype for name, info in packed.items() if name.endswith(".scales")} == {scales}


@pytest.mark.parametrize("hidden", [192, 320])
def test_not_every_model_can_be_awq(hidden: int) -> None:
    geometry = read_geometry(config(hidden_size=hidden))
    assert as_awq(headers(geometry), geometry) is None


def test_a_missing_layer_is_named() -> None:
    geometry = read_geometry(config())
    found = headers(geometry)
    del found["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(UnsupportedError, match=r"model\.layers\.1\.mlp\.up_proj"):
        weight_bytes(found, geometry)
    with pytest.raises(UnsupportedError, match="embedding is missing"):
        weight_bytes({}, geometry)


def test_other_architectures_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="MixtralForCausalLM is not known"):
        read_geometry(config(architectures=["MixtralForCausalLM"]))


@pytest.mark.parametrize("size", [0, "8", None, True])
def test_a_size_must_be_a_number(size: object) -> None:
    with pytest.raises(UnsupportedError, match="num_hidden_layers"):
        read_geometry(config(num_hidden_layers=size))


def test_fused_attention_has_queries_and_both_keys() -> None:
    geometry = read_geometry(config(architectures=["InternLM2ForCausalLM"]))
    fused = [place for place in places(geometry) if place.name.endswith("wqkv")]
    assert {place.outputs for place in fused} == {256 + 2 * 128}
    one, four = (weight_bytes(headers(geometry), geometry, tp=tp) for tp in (1, 4))
    assert four > one // 4


def test_the_other_methods_are_read_too() -> None:
    gptq = {
        "x.qweight": TensorInfo("x.qweight", "I32", (16, 64)),
        "x.scales": TensorInfo("x.scales", "F16", (1, 64)),
    }
    assert read_layer(gptq, "x", "gptq").inputs == 128
    packed = {
        "x.weight_packed": TensorInfo("x.weight_packed", "I32", (64, 16)),
        "x.weight_scale": TensorInfo("x.weight_scale", "BF16", (64, 4)),
    }
    layer = read_layer(packed, "x", "compressed-tensors")
    assert (layer.inputs, layer.outputs) == (128, 64)
    with pytest.raises(PackingError, match=r"no \.weight"):
        read_layer({}, "x", None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"qzeros": None}, r"has \.qweight but no \.qzeros"),
        ({"scales": None}, r"has \.qweight but no \.scales in fp16"),
        ({"scales": ("I32", (1, 64))}, r"has \.qweight but no \.scales in fp16"),
        ({"scales": ("F16", (1, 63))}, r"\.qweight has 64 outputs and \.scales 1×63"),
        ({"qweight": ("F16", (128, 8))}, r"x\.qweight is F16 128×8, not int32"),
        ({"qzeros": ("I32", (8,))}, r"x\.qzeros is I32 8, not int32"),
        ({"bias": ("I32", (64,))}, "its bias is stored as I32"),
    ],
)
def test_what_is_no_4_bit_layer_is_said(changes: dict[str, object], said: str) -> None:
    whole = {"qweight": ("I32", (128, 8)), "scales": ("F16", (1, 64)), "qzeros": ("I32", (1, 8))}
    parts = {f"x.{key}": value for key, value in (whole | changes).items() if value}
    infos = {name: TensorInfo(name, *value) for name, value in parts.items()}
    with pytest.raises(PackingError, match=said):
        read_layer(infos, "x", "awq")


def test_estimates_grow_with_what_they_estimate() -> None:
    geometry = read_geometry(config())
    few, many = (activation_bytes(geometry, max_batch_size=n) for n in (1, 128))
    assert 0 < few < many
    assert context_bytes(4) == context_bytes(2) > context_bytes(1) > 0


def test_a_cache_holds_what_it_was_made_for() -> None:
    for tokens in (1, 64, 65, 4096):
        size = cache_bytes(12_345, tokens)
        assert size % PAGE == 0
        assert tokens_held(12_345, size) >= tokens
        assert tokens_held(12_345, size) % 64 == 0  # in whole blocks
    assert tokens_held(12_345, PAGE - 1) == 0
