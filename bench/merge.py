"""The streaming merge against its physical limit: `cp -r` of the base plus the bare fp32 products.

    python bench/merge.py [--gigabytes 0.4 1 2] [--rank 64] [--peft] [--folder DIR]

Each line is a whole process: start-up, imports and all. Peak memory is what the kernel says of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from convert.safetensors_files import INDEX, SINGLE, header_bytes
from convert.shards import split
from convert.tensors import TensorInfo

HIDDEN, INNER, VOCAB = 2048, 5632, 16000
SHAPES = {
    "q_proj": (HIDDEN, HIDDEN), "k_proj": (HIDDEN, HIDDEN), "v_proj": (HIDDEN, HIDDEN),
    "o_proj": (HIDDEN, HIDDEN), "gate_proj": (INNER, HIDDEN), "up_proj": (INNER, HIDDEN),
    "down_proj": (HIDDEN, INNER),
}  # fmt: skip
ROOT = Path(__file__).parent.parent

PRODUCTS = """
import json, numpy as np
for rows, columns in json.loads({shapes!r}):
    b, a = (np.full(shape, 0.5, np.float32) for shape in ((rows, {rank}), ({rank}, columns)))
    np.matmul(b, a)
"""
MERGE = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from convert.steps import merge
merge(Path({base!r}), Path({adapter!r}), Path({out!r}))
"""
PEFT = """
import sys, torch
sys.path.insert(0, {root!r})
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({base!r}, dtype=torch.bfloat16)
PeftModel.from_pretrained(model, {adapter!r}).merge_and_unload().save_pretrained({out!r})
"""


def make(folder: Path, gigabytes: float, rank: int) -> tuple[Path, Path]:
    """A random Llama-shaped base in bf16 and a LoRA on all its projections."""
    base, adapter = folder / f"base-{gigabytes}", folder / f"adapter-{gigabytes}-{rank}"
    layer = sum(a * b for a, b in SHAPES.values()) * 2
    layers = max(1, round((gigabytes * 1e9 - 2 * VOCAB * HIDDEN * 2) / layer))
    linear = {
        f"model.layers.{i}.{'mlp' if n[0] in 'gud' else 'self_attn'}.{n}": s
        for i in range(layers)
        for n, s in SHAPES.items()
    }
    infos = [TensorInfo("model.embed_tokens.weight", "BF16", (VOCAB, HIDDEN))]
    infos += [TensorInfo(f"{n}.weight", "BF16", s) for n, s in linear.items()]
    infos += [
        TensorInfo(f"model.layers.{i}.{n}_layernorm.weight", "BF16", (HIDDEN,))
        for i in range(layers)
        for n in ("input", "post_attention")
    ]
    infos += [TensorInfo("model.norm.weight", "BF16", (HIDDEN,))]
    infos += [TensorInfo("lm_head.weight", "BF16", (VOCAB, HIDDEN))]
    if not base.exists():
        _write(base, infos, 2 * 10**9)
        config = {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
            "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": 16,
            "num_key_value_heads": 16, "vocab_size": VOCAB, "tie_word_embeddings": False,
        }  # fmt: skip
        (base / "config.json").write_text(json.dumps(config))
    if not adapter.exists():
        factors = []
        for name, (rows, columns) in linear.items():
            factors.append(
                TensorInfo(f"base_model.model.{name}.lora_A.weight", "F32", (rank, columns))
            )
            factors.append(
                TensorInfo(f"base_model.model.{name}.lora_B.weight", "F32", (rows, rank))
            )
        _write(adapter, factors, 10**12)
        (adapter / SINGLE).rename(adapter / "adapter_model.safetensors")
        config = {
            "peft_type": "LORA", "r": rank, "lora_alpha": rank * 1.5, "target_modules": [*SHAPES],
            "task_type": "CAUSAL_LM",
        }  # fmt: skip
        (adapter / "adapter_config.json").write_text(json.dumps(config))
    return base, adapter


def _write(folder: Path, infos: list[TensorInfo], limit: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    files = split({info.name: info for info in infos}, limit)
    for name, group in files:
        with (folder / name).open("wb") as file:
            file.write(header_bytes(group))
            for info in group:
                values = random.standard_normal(info.shape, np.float32) * np.float32(0.02)
                if info.dtype == "BF16":
                    (values.view(np.uint32) >> 16).astype(np.uint16).tofile(file)
                else:
                    values.tofile(file)
    where = {info.name: name for name, group in files for info in group}
    if len(files) > 1:
        (folder / INDEX).write_text(json.dumps({"weight_map": where}))


def timed(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of a whole process."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"{command[0]} failed")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def commands(folder: Path, gigabytes: float, rank: int, *, peft: bool) -> dict[str, list[str]]:
    # In a process of its own: a child's peak begins with what its parent had when it forked.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        base, adapter = pool.submit(make, folder, gigabytes, rank).result()
    layers = json.loads((base / "config.json").read_text())["num_hidden_layers"]
    out = folder / "out"
    names = {
        "root": str(ROOT), "base": str(base), "adapter": str(adapter), "out": str(out),
        "rank": rank, "shapes": json.dumps([*SHAPES.values()] * layers),
    }  # fmt: skip
    found = {
        "cp -r": ["cp", "-r", str(base), str(out)],
        "bare fp32 products": [sys.executable, "-c", PRODUCTS.format(**names)],
        "hanlin merge": [sys.executable, "-c", MERGE.format(**names)],
    }
    return found | ({"PEFT": [sys.executable, "-c", PEFT.format(**names)]} if peft else {})


def measured(name: str, command: list[str], out: Path, rounds: int) -> tuple[float, float, float]:
    """The least time and the greatest peak of some rounds; PEFT gets one, it is far from both."""
    found = []
    for _ in range(1 if name == "PEFT" else rounds):
        shutil.rmtree(out, ignore_errors=True)
        found.append(timed(command))
    shutil.rmtree(out, ignore_errors=True)
    seconds, cpu, peak = zip(*found, strict=True)
    return min(seconds), min(cpu), max(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.4, 1.0, 2.0])
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path("bench-models"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peft", action="store_true", help="measure PEFT's merge as well")
    options = parser.parse_args()
    print("| GB | | seconds | CPU s | peak MiB |\n|---|---|---|---|---|")
    for size in options.gigabytes:
        best = {}
        for name, command in commands(
            options.folder, size, options.rank, peft=options.peft
        ).items():
            best[name] = measured(name, command, options.folder / "out", options.rounds)
            seconds, cpu, peak = best[name]
            print(f"| {size} | {name} | {seconds:.2f} | {cpu:.2f} | {peak:.0f} |", flush=True)
        limits = [best["cp -r"][i] + best["bare fp32 products"][i] for i in (0, 1)]
        ratios = [best["hanlin merge"][i] / limits[i] for i in (0, 1)]
        print(f"| {size} | merge / (cp + products) | {ratios[0]:.2f} | {ratios[1]:.2f} | |")


if __name__ == "__main__":
    main()
