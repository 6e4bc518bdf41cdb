"""Tiny models of retired architectures with random weights, and what they compute.

The two forward passes are written from the architectures' definitions and share nothing with the
code under test, nor with the libraries that run the living architectures.
"""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import embedding, linear, silu

from convert.errors import ConvertError
from convert.run import build
from tests.convert.making import house

HIDDEN, HEADS, LAYERS, INNER, VOCAB, LONGEST = 64, 4, 2, 96, 300, 48
EPS = 1e-6
Weights = dict[str, torch.Tensor]
BYTES = [bytes([byte]) for byte in range(256)]

INTERNLM = {
    "architectures": ["InternLMForCausalLM"], "model_type": "internlm", "bias": True,
    "auto_map": {"AutoModelForCausalLM": "modeling_internlm.InternLMForCausalLM"},
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "hidden_act": "silu",
    "hidden_size": HIDDEN, "intermediate_size": INNER, "max_position_embeddings": LONGEST,
    "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "rms_norm_eps": EPS,
    "tie_word_embeddings": False, "torch_dtype": "float32", "vocab_size": VOCAB,
}  # fmt: skip
QWEN = {
    "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "attn_dropout_prob": 0.0,
    "auto_map": {"AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"},
    "hidden_size": HIDDEN, "intermediate_size": 2 * INNER, "kv_channels": HIDDEN // HEADS,
    "layer_norm_epsilon": EPS, "max_position_embeddings": 4 * LONGEST, "no_bias": True,
    "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "rotary_emb_base": 10000,
    "rotary_pct": 1.0, "scale_attn_weights": True, "seq_length": LONGEST,
    "tie_word_embeddings": False, "torch_dtype": "float32", "use_dynamic_ntk": True,
    "use_logn_attn": True, "vocab_size": VOCAB,
}  # fmt: skip


def drawn(shapes: dict[str, tuple[int, ...]]) -> Weights:
    made = torch.Generator().manual_seed(7)
    return {
        name: torch.randn(shape, generator=made) / (math.sqrt(shape[-1]) if len(shape) > 1 else 1)
        for name, shape in shapes.items()
    }


def internlm_weights() -> Weights:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for part in "qkvo":
            shapes[f"{at}.self_attn.{part}_proj.weight"] = (HIDDEN, HIDDEN)
            shapes[f"{at}.self_attn.{part}_proj.bias"] = (HIDDEN,)
        shapes[f"{at}.self_attn.rotary_emb.inv_freq"] = (HIDDEN // HEADS // 2,)
        shapes[f"{at}.mlp.gate_proj.weight"] = shapes[f"{at}.mlp.up_proj.weight"] = (INNER, HIDDEN)
        shapes[f"{at}.mlp.down_proj.weight"] = (HIDDEN, INNER)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}.{norm}.weight"] = (HIDDEN,)
    return drawn(shapes | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCAB, HIDDEN)})


def qwen_weights() -> Weights:
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (VOCAB, HIDDEN)}
    for layer in range(LAYERS):
        at = f"transformer.h.{layer}"
        shapes |= {
            f"{at}.attn.c_attn.weight": (3 * HIDDEN, HIDDEN),
            f"{at}.attn.c_attn.bias": (3 * HIDDEN,),
            f"{at}.attn.c_proj.weight": (HIDDEN, HIDDEN),
            f"{at}.mlp.w1.weight": (INNER, HIDDEN),
            f"{at}.mlp.w2.weight": (INNER, HIDDEN),
            f"{at}.mlp.c_proj.weight": (HIDDEN, INNER),
            f"{at}.ln_1.weight": (HIDDEN,),
            f"{at}.ln_2.weight": (HIDDEN,),
        }
    return drawn(shapes | {"transformer.ln_f.weight": (HIDDEN,), "lm_head.weight": (VOCAB, HIDDEN)})


def internlm(weights: Weights, ids: torch.Tensor, *, dynamic: bool = False) -> torch.Tensor:
    """InternLM v1: a Llama with biases on all four projections of the attention."""
    theta = 10000.0
    if dynamic and len(ids) > LONGEST:  # positions stretched as far as the text is too long
        width = HIDDEN // HEADS
        theta *= (len(ids) / LONGEST) ** (width / (width - 2))
    hidden = embedding(ids, weights["model.embed_tokens.weight"])
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"

        def apply(name: str, to: torch.Tensor, at: str = at) -> torch.Tensor:
            return linear(to, weights[f"{at}.{name}.weight"], weights.get(f"{at}.{name}.bias"))

        normed = rms(hidden, weights[f"{at}.input_layernorm.weight"])
        parts = [apply(f"self_attn.{part}_proj", normed) for part in "qkv"]
        hidden = hidden + apply("self_attn.o_proj", attended(*parts, theta=theta))
        normed = rms(hidden, weights[f"{at}.post_attention_layernorm.weight"])
        gated = silu(apply("mlp.gate_proj", normed)) * apply("mlp.up_proj", normed)
        hidden = hidden + apply("mlp.down_proj", gated)
    return linear(rms(hidden, weights["model.norm.weight"]), weights["lm_head.weight"])


def qwen(weights: Weights, ids: torch.Tensor) -> torch.Tensor:
    """Qwen v1 up to `seq_length`: one fused projection, and w1 times the silu of w2."""
    hidden = embedding(ids, weights["transformer.wte.weight"])
    for layer in range(LAYERS):
        at = f"transformer.h.{layer}"
        normed = rms(hidden, weights[f"{at}.ln_1.weight"])
        fused = linear(
            normed, weights[f"{at}.attn.c_attn.weight"], weights[f"{at}.attn.c_attn.bias"]
        )
        joined = attended(*fused.split(HIDDEN, dim=-1), theta=10000.0)
        hidden = hidden + linear(joined, weights[f"{at}.attn.c_proj.weight"])
        normed = rms(hidden, weights[f"{at}.ln_2.weight"])
        first = linear(normed, weights[f"{at}.mlp.w1.weight"])
        second = linear(normed, weights[f"{at}.mlp.w2.weight"])
        hidden = hidden + linear(first * silu(second), weights[f"{at}.mlp.c_proj.weight"])
    return linear(rms(hidden, weights["transformer.ln_f.weight"]), weights["lm_head.weight"])


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * weight


def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, theta: float) -> torch.Tensor:
    length, width = len(q), HIDDEN // HEADS
    angles = torch.outer(
        torch.arange(length).float(), theta ** -(torch.arange(0, width, 2).float() / width)
    ).repeat(1, 2)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(length, HEADS, width).transpose(0, 1)

    def turned(x: torch.Tensor) -> torch.Tensor:
        first, second = heads(x).split(width // 2, dim=-1)
        return heads(x) * angles.cos() + torch.cat([-second, first], -1) * angles.sin()

    scores = turned(q) @ turned(k).transpose(1, 2) / math.sqrt(width)
    scores = scores + torch.full((length, length), -torch.inf).triu(1)
    return (scores.softmax(-1) @ heads(v)).transpose(0, 1).reshape(length, HIDDEN)


def sentencepiece_model(pieces: list[tuple[str, float, int]], *, prefix: bool = True) -> bytes:
    """A `tokenizer.model` in protobuf's wire format, without the package."""
    normalizer = field(1, b"identity") + b"\x18" + bytes([prefix]) + b"\x20\x00"
    trainer = b"\x18\x02" + b"\x98\x02\x01"  # model_type: BPE, byte_fallback: true
    return (
        b"".join(field(1, _piece(*piece)) for piece in pieces)
        + field(2, trainer)
        + field(3, normalizer)
    )


def _piece(text: str, score: float, kind: int) -> bytes:
    import struct

    return field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])


def field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


PIECES = [
    ("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3),
    *((f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)),
    ("<eoh>", 0.0, 4), ("<eoa>", 0.0, 4),
    ("▁我", -1.0, 1), ("你好", -2.0, 1), ("▁我你", -3.0, 1),
    ("▁", -10.0, 1), ("我", -11.0, 1), ("你", -12.0, 1), ("好", -13.0, 1), ("a", -14.0, 1),
]  # fmt: skip
IDS = {text: number for number, (text, _, _) in enumerate(PIECES)}


def folder(path: Path, config: dict[str, Any], weights: Weights, *, shards: int = 1) -> Path:
    """A model folder as these models were published: torch archives and remote code."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / f"modeling_{config['model_type']}.py").write_text("raise SystemExit('was run')")
    names = list(weights)
    if shards == 1:
        torch.save(weights, path / "pytorch_model.bin")
        return path
    step, where = -(-len(names) // shards), {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        part = names[number * step : (number + 1) * step]
        torch.save({name: weights[name] for name in part}, path / file)
        where |= dict.fromkeys(part, file)
    (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    return path


def internlm_folder(path: Path, **changes: Any) -> Path:
    made = folder(path, INTERNLM | changes, internlm_weights(), shards=3)
    (made / "tokenizer.model").write_bytes(sentencepiece_model(PIECES))
    (made / "tokenization_internlm.py").write_text("raise SystemExit('was run')")
    remote = {"auto_map": {"AutoTokenizer": ["tokenization_internlm.InternLMTokenizer", None]}}
    config = {"tokenizer_class": "InternLMTokenizer", "bos_token": "<s>", "eos_token": "</s>",
              "pad_token": "</s>", "unk_token": "<unk>", "model_max_length": 2048}  # fmt: skip
    (made / "tokenizer_config.json").write_text(json.dumps(config | remote))
    return made


def qwen_folder(path: Path, tokens: list[bytes], **changes: Any) -> Path:
    made = folder(path, QWEN | changes, qwen_weights())
    lines = [b"%s %d" % (base64.b64encode(token), number) for number, token in enumerate(tokens)]
    (made / "qwen.tiktoken").write_bytes(b"\n".join(lines) + b"\n")
    (made / "tokenizer_config.json").write_text('{"tokenizer_class": "QWenTokenizer"}')
    return made


def workspace(tmp_path: Path, base: Path, adapter: Path | None = None) -> Path:
    """What `hanlin convert` makes of an assistant on this base."""
    named = str(adapter) if adapter else None
    assistants = house(tmp_path / "assistants", base=str(base), adapter=named)
    (done,) = build(assistants, engine="turbomind", workspaces=tmp_path / "workspaces")
    return done.folder


def refused(tmp_path: Path, base: Path, error: type[ConvertError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        workspace(tmp_path, base)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "workspaces" / "one" / "turbomind").exists()
