"""Models, adapters, houses and a llama.cpp server, made on the spot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from assistants import House, load_house
from convert.weights.dtypes import encode
from convert.weights.safetensors_files import header_bytes
from convert.weights.tensors import TensorInfo

ROOT = Path(__file__).parents[2]
MINI = ROOT / "assistants" / "bases" / "hanlin-mini"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hanlin-tests"
"""Where wheels stay from one run to the next."""


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], dtype: str = "BF16") -> None:
    infos = [TensorInfo(name, dtype, value.shape) for name, value in tensors.items()]
    data = [encode(value.astype(np.float32), dtype).tobytes() for value in tensors.values()]
    path.write_bytes(header_bytes(infos) + b"".join(data))


def small_base(folder: Path, *, tied: bool = False) -> Path:
    """One layer and a half of something Llama-shaped: enough for names and shapes."""
    random = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "model.embed_tokens.weight": random.standard_normal((64, 32)),
        "model.layers.0.self_attn.q_proj.weight": random.standard_normal((32, 32)),
        "model.layers.0.mlp.up_proj.weight": random.standard_normal((96, 32)),
        "model.norm.weight": random.standard_normal((32,)),
    }
    if not tied:
        tensors["lm_head.weight"] = random.standard_normal((64, 32))
    write_safetensors(folder / "model.safetensors", tensors)
    config = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def small_adapter(folder: Path, **changes: object) -> Path:
    """A LoRA on `small_base`; `changes` go over its configuration."""
    random = np.random.default_rng(2)
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "base_model.model.model.layers.0"
    tensors = {
        f"{prefix}.self_attn.q_proj.lora_A.weight": random.standard_normal((4, 32)),
        f"{prefix}.self_attn.q_proj.lora_B.weight": random.standard_normal((32, 4)),
    }
    write_safetensors(folder / "adapter_model.safetensors", tensors, "F32")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def house(folder: Path, *, base: str, adapter: str | None = None, **sections: object) -> House:
    """A house of one assistant, declared in a file as a person would."""
    folder.mkdir(parents=True, exist_ok=True)
    model = {"base": base} | ({"adapter": adapter} if adapter else {})
    declaration = {"name": "one", "title": "One", "description": "The only one.", "model": model}
    (folder / "one.yaml").write_text(json.dumps(declaration | sections), encoding="utf-8")
    return load_house(folder)


@contextmanager
def llama(model: Path) -> Iterator[httpx.Client]:
    """A llama.cpp server over a GGUF file."""
    command = [sys.executable, str(Path(__file__).with_name("llama_process.py")), str(model)]
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, process.stderr.read() if process.stderr else ""
        try:
            with httpx.Client(base_url=address, timeout=120) as client:
                yield client
        finally:
            process.stdin.close()
            process.wait(30)
