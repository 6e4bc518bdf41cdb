"""Small models made on the spot in each layout, and dialogues to calibrate them on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.weights.dtypes import encode
from convert.weights.safetensors_files import header_bytes
from convert.weights.tensors import TensorInfo

MINI = Path(__file__).parents[3] / "assistants" / "bases" / "hanlin-mini"
VOCAB = 7168

Make = Callable[..., Path]

TYPES = {
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "InternLM2ForCausalLM": "internlm2",
}


def sizes(arch: str, *, hidden: int, inner: int, heads: int, kv: int, dim: int) -> dict[str, Any]:
    """The part of a configuration that says how large things are."""
    return {
        "architectures": [arch], "model_type": TYPES[arch], "hidden_size": hidden,
        "intermediate_size": inner, "num_attention_heads": heads, "num_key_value_heads": kv,
        "head_dim": dim, "num_hidden_layers": 2, "vocab_size": VOCAB, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "max_position_embeddings": 512, "hidden_act": "silu",
        "tie_word_embeddings": arch == "Qwen2ForCausalLM", "torch_dtype": "bfloat16",
        "bos_token_id": 1, "eos_token_id": 5, "bias": False,
    }  # fmt: skip


def layer_shapes(config: dict[str, Any], index: int) -> dict[str, tuple[int, ...]]:
    """The tensors of one layer."""
    arch = config["architectures"][0]
    wide, inner, dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = (config[f"num_{n}_heads"] * dim for n in ("attention", "key_value"))
    at = f"model.layers.{index}."
    if arch == "InternLM2ForCausalLM":
        return {
            f"{at}attention.wqkv.weight": (queries + 2 * keys, wide),
            f"{at}attention.wo.weight": (wide, queries),
            f"{at}feed_forward.w1.weight": (inner, wide),
            f"{at}feed_forward.w3.weight": (inner, wide),
            f"{at}feed_forward.w2.weight": (wide, inner),
            f"{at}attention_norm.weight": (wide,), f"{at}ffn_norm.weight": (wide,),
        }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {}
    for name, rows in (("q", queries), ("k", keys), ("v", keys)):
        shapes[f"{at}self_attn.{name}_proj.weight"] = (rows, wide)
        if arch == "Qwen2ForCausalLM":
            shapes[f"{at}self_attn.{name}_proj.bias"] = (rows,)
    shapes |= {
        f"{at}self_attn.o_proj.weight": (wide, queries),
        f"{at}mlp.gate_proj.weight": (inner, wide), f"{at}mlp.up_proj.weight": (inner, wide),
        f"{at}mlp.down_proj.weight": (wide, inner),
        f"{at}input_layernorm.weight": (wide,), f"{at}post_attention_layernorm.weight": (wide,),
    }  # fmt: skip
    if arch == "Qwen3ForCausalLM":
        shapes |= {f"{at}self_attn.{n}_norm.weight": (dim,) for n in "qk"}
    return shapes


def all_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    internlm = config["architectures"][0] == "InternLM2ForCausalLM"
    both = (config["vocab_size"], config["hidden_size"])
    shapes: dict[str, tuple[int, ...]] = {
        "model.tok_embeddings.weight" if internlm else "model.embed_tokens.weight": both,
        "model.norm.weight": (config["hidden_size"],),
    }
    for index in range(config["num_hidden_layers"]):
        shapes |= layer_shapes(config, index)
    if not config["tie_word_embeddings"]:
        shapes["output.weight" if internlm else "lm_head.weight"] = both
    return shapes


def write_model(folder: Path, config: dict[str, Any], dtype: str) -> Path:
    """A model of random weights with a few large channels, as trained models have them."""
    folder.mkdir()
    random = np.random.default_rng(0)
    infos, pieces = [], []
    for name, shape in all_shapes(config).items():
        values = random.standard_normal(shape, dtype=np.float32)
        if "norm" in name:
            values = 1 + 0.3 * values
            values[::37] *= 8
        elif len(shape) == 2:
            values /= np.sqrt(np.float32(shape[1]))
        infos.append(TensorInfo(name, dtype, shape))
        pieces.append(encode(values.astype(np.float32), dtype).tobytes())
    (folder / "model.safetensors").write_bytes(header_bytes(infos) + b"".join(pieces))
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                 "generation_config.json"):  # fmt: skip
        shutil.copyfile(MINI / name, folder / name)
    return folder


@pytest.fixture
def make_model(tmp_path: Path) -> Make:
    """A model of an architecture; sizes that fit groups of 128 unless said otherwise."""

    def make(arch: str = "LlamaForCausalLM", *, dtype: str = "BF16", **changes: Any) -> Path:
        dim = 128 if arch == "Qwen3ForCausalLM" else 64
        config = sizes(arch, hidden=256, inner=384, heads=4, kv=2, dim=dim)
        config |= {"torch_dtype": {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]}
        return write_model(tmp_path / f"model-{arch}", {**config, **changes}, dtype)

    return make


@pytest.fixture
def dialogues(tmp_path: Path) -> Path:
    """Thirty-two dialogues of plain Chinese."""
    path = tmp_path / "dialogues.jsonl"
    lines = [
        {"messages": [
            {"role": "user", "content": f"祝姐姐生日快乐，第{i}个生日"},
            {"role": "assistant", "content": "愿你笑口常开，" * (2 + i % 3) + f"年年{i}岁岁。"},
        ]}
        for i in range(32)
    ]  # fmt: skip
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    return path
