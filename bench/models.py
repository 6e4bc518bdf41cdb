"""Makes the models that are measured: random weights in real shapes, with a tokenizer that is real.

Llama-shaped, bf16, as many layers as the size asks for, and a LoRA on all projections.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from convert.weights.safetensors_files import INDEX, SINGLE, header_bytes
from convert.weights.shards import split
from convert.weights.tensors import TensorInfo

HIDDEN, INNER = 2048, 5632
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
SHARD = 2 * 10**9
MINI = Path(__file__).parent.parent / "assistants" / "bases" / "hanlin-mini"
"""Lends its tokenizer, templates and special tokens."""


def make(folder: Path, gigabytes: float, rank: int) -> tuple[Path, Path]:
    """A base of about that size and its adapter; made once."""
    config = json.loads((MINI / "config.json").read_text())
    ends = (config["vocab_size"], HIDDEN)
    layer = 2 * sum(rows * columns for rows, columns in SHAPES.values())
    layers = max(1, round((gigabytes * 1e9 - 4 * ends[0] * ends[1]) / layer))
    base, adapter = folder / f"base-{layers}", folder / f"adapter-{layers}-{rank}"
    matrices = {f"model.layers.{i}.{n}": s for i in range(layers) for n, s in SHAPES.items()}
    if not base.exists():
        with _whole(base) as part:
            _write(part, [_bf16("model.embed_tokens", ends), *_layers(matrices, layers),
                          _bf16("model.norm", (HIDDEN,)), _bf16("lm_head", ends)])  # fmt: skip
            for path in MINI.iterdir():
                if path.name.startswith(("tokenizer", "chat_template", "generation_config")):
                    shutil.copyfile(path, part / path.name)
            _json(part / "config.json", config | {
                "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": layers,
                "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 128,
                "tie_word_embeddings": False,
            })  # fmt: skip
    if not adapter.exists():
        with _whole(adapter) as part:
            _write(part, [info for name, shape in matrices.items()
                          for info in _factors(name, shape, rank)])  # fmt: skip
            (part / SINGLE).rename(part / "adapter_model.safetensors")
            modules = sorted({name.rpartition(".")[2] for name in SHAPES})
            _json(part / "adapter_config.json", {
                "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank * 1.5,
                "target_modules": modules, "base_model_name_or_path": str(base),
            })  # fmt: skip
    return base, adapter


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder that gets its name when all of it is there: half a one would be measured, too."""
    part = folder.with_name(f".{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    yield part
    part.rename(folder)


def _bf16(module: str, shape: tuple[int, ...]) -> TensorInfo:
    return TensorInfo(f"{module}.weight", "BF16", shape)


def _layers(matrices: dict[str, tuple[int, int]], layers: int) -> list[TensorInfo]:
    norms = ("input_layernorm", "post_attention_layernorm")
    return [
        *(_bf16(name, shape) for name, shape in matrices.items()),
        *(_bf16(f"model.layers.{i}.{norm}", (HIDDEN,)) for i in range(layers) for norm in norms),
    ]


def _factors(module: str, shape: tuple[int, int], rank: int) -> list[TensorInfo]:
    name = f"base_model.model.{module}"
    return [
        TensorInfo(f"{name}.lora_A.weight", "F32", (rank, shape[1])),
        TensorInfo(f"{name}.lora_B.weight", "F32", (shape[0], rank)),
    ]


def _json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _write(folder: Path, infos: list[TensorInfo]) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    files = split({info.name: info for info in infos}, SHARD)
    for name, group in files:
        with (folder / name).open("wb") as file:
            file.write(header_bytes(group))
            for info in group:
                values = random.standard_normal(info.shape, np.float32) * np.float32(0.02)
                if info.name.endswith("norm.weight"):
                    values += 1
                if info.dtype == "BF16":
                    values = (values.view(np.uint32) >> 16).astype(np.uint16)
                values.tofile(file)
    if len(files) > 1:
        where = {info.name: name for name, group in files for info in group}
        total = sum(info.size for info in infos)
        _json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})
