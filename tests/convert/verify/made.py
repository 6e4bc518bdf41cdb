"""Workspaces made for the tests: one small decoder with the embedded base's tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert import digests
from convert.weights.dtypes import STORAGE, Raw, encode
from convert.weights.safetensors_files import header_bytes
from convert.weights.tensors import TensorInfo

BASE = Path(__file__).resolve().parents[3] / "assistants" / "bases" / "hanlin-mini"
TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM = 128, 256, 2, 1, 64
VOCAB = int(json.loads((BASE / "config.json").read_text(encoding="utf-8"))["vocab_size"])
MATRICES = {
    "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
    "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 5,
    "pad_token_id": 3,
    "torch_dtype": "bfloat16",
}
ENGINE = {
    "engine": "turbomind",
    "assistant": "made",
    "tp": 1,
    "session_len": 1024,
    "quant_policy": 8,
    "cache_max_entry_count": 0.5,
    "max_batch_size": 16,
    "model_format": "hf",
    "dtype": "auto",
    "lmdeploy": ">=0.15",
}
AWQ = {
    "quant_method": "awq",
    "version": "gemm",
    "bits": 4,
    "group_size": 128,
    "zero_point": True,
}

Tensors = dict[str, tuple[str, Raw]]


def plain_tensors() -> Tensors:
    """A decoder of one layer with small random numbers."""
    random = np.random.default_rng(7)
    layer = {f"model.layers.0.{name}.weight": shape for name, shape in MATRICES.items()}
    norms = ("model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm")
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN)} | layer
    shapes |= {f"{name}.weight": (HIDDEN,) for name in (*norms, "model.norm")}
    return {
        name: ("BF16", encode(random.normal(0, 0.02, shape).astype(np.float32), "BF16"))
        for name, shape in shapes.items()
    }


def awq_tensors() -> Tensors:
    """The same with its layers in 4 bits, group size 128, in the GEMM layout."""
    found = plain_tensors()
    for name, (outputs, inputs) in MATRICES.items():
        place = f"model.layers.0.{name}"
        del found[f"{place}.weight"]
        words, groups = outputs // 8, inputs // 128
        found[f"{place}.qweight"] = ("I32", np.full((inputs, words), 0x76543210, np.int32))
        found[f"{place}.qzeros"] = ("I32", np.full((groups, words), 0x77777777, np.int32))
        scales = np.full((groups, outputs), 0.01, np.float32)
        found[f"{place}.scales"] = ("BF16", encode(scales, "BF16"))
    return found


def write_tensors(path: Path, tensors: Tensors) -> None:
    """One safetensors file."""
    infos = [TensorInfo(name, kind, raw.shape) for name, (kind, raw) in tensors.items()]
    with path.open("wb") as file:
        file.write(header_bytes(infos))
        for kind, raw in tensors.values():
            file.write(np.ascontiguousarray(raw.astype(STORAGE[kind], copy=False)).tobytes())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; `...` removes one."""
    found = json.loads(path.read_text(encoding="utf-8")) | changes
    write_json(path, {key: value for key, value in found.items() if value is not ...})


def edit_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    """Change the tensors of the one weight file."""
    tensors = awq_tensors() if "quantization_config" in config(folder) else plain_tensors()
    change(tensors)
    write_tensors(folder / "model.safetensors", tensors)


def config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return found


def seal(folder: Path, **more: Any) -> Path:
    """Write the manifest over what is in the folder, as the last step of a conversion does."""
    files = {
        path.name: {"sha256": digests.of_file(path), "size": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != "manifest.json"
    }
    write_json(folder / "manifest.json", {"schema": 1, "name": "made", "files": files, **more})
    return folder


def plain(folder: Path) -> Path:
    """A good 16-bit workspace."""
    folder.mkdir(parents=True)
    for name in TEXT_FILES:
        shutil.copyfile(BASE / name, folder / name)
    shutil.copyfile(BASE / "chat_template.jinja", folder / "chat_template.jinja")
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "engine.json", ENGINE)
    write_tensors(folder / "model.safetensors", plain_tensors())
    return seal(folder)


FIDELITY = {
    "answer_tokens": 100,
    "perplexity": {"original": 10.0, "quantised": 10.5},
    "divergence": 0.01,
    "layer_error": [{"own": 0.1, "carried": 0.1}],
}
"""As the quantiser writes it into the lineage."""


def awq(folder: Path) -> Path:
    """A good 4-bit workspace."""
    plain(folder)
    edit(folder / "config.json", quantization_config=AWQ)
    edit(folder / "engine.json", model_format="awq")
    write_tensors(folder / "model.safetensors", awq_tensors())
    return seal(folder, lineage={"quantize": {"fidelity": FIDELITY}})


def adopted(source: Path, folder: Path) -> Path:
    """A good workspace of a model folder somebody else made. The tiny models have heads of 32
    dimensions, for which there is no kernel; read as half as many of 64 they are as good."""
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    found = config(folder)
    if found["hidden_size"] // found["num_attention_heads"] == 32:
        halves = {key: found[key] // 2 for key in ("num_attention_heads", "num_key_value_heads")}
        edit(folder / "config.json", **halves, head_dim=64)
    edit(folder / "config.json", auto_map=...)
    method = (found.get("quantization_config") or {}).get("quant_method")
    settings = ENGINE | {"session_len": 512, "model_format": method or "hf"}
    write_json(folder / "engine.json", settings)
    return seal(folder, **({"fidelity": FIDELITY} if method else {}))
