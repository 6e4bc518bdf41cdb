"""The streaming merge against its physical limit: `cp -r` of the base plus the bare fp32 products.

    python bench/merge.py [--gigabytes 1] [--rank 64] [--folder DIR]

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

from convert.safetensors_files import INDEX, header_bytes
from convert.shards import split
from convert.tensors import TensorInfo

HIDDEN, INNER, VOCAB = 2048, 5632, 32000
ROOT = Path(__file__).parent.parent

PRODUCTS = """
import sys, numpy as np
sys.path.insert(0, {root!r})
from pathlib import Path
from convert.merge import merged
with merged(Path({base!r}), Path({adapter!r})) as (source, _):
    infos = source._adapter.tensors.infos
    for edit in source._edits.values():
        a, b = (np.full(infos[n].shape, 0.5, np.float32)
                for n in (edit.low_rank.a, edit.low_rank.b))
        np.matmul(b, a)
"""
MERGE = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from convert.steps import merge
merge(Path({base!r}), Path({adapter!r}), Path({out!r}))
"""


def make(folder: Path, gigabytes: float, rank: int) -> tuple[Path, Path]:
    """A random Llama-shaped base in bf16 and a LoRA on all its projections."""
    base, adapter = folder / f"base-{gigabytes}", folder / f"adapter-{gigabytes}-{rank}"
    shapes = {"q_proj": (HIDDEN, HIDDEN), "k_proj": (HIDDEN, HIDDEN), "v_proj": (HIDDEN, HIDDEN),
              "o_proj": (HIDDEN, HIDDEN), "gate_proj": (INNER, HIDDEN), "up_proj": (INNER, HIDDEN),
              "down_proj": (HIDDEN, INNER)}  # fmt: skip
    layer = sum(a * b for a, b in shapes.values()) * 2
    layers = max(1, round((gigabytes * 1e9 - 2 * VOCAB * HIDDEN * 2) / layer))
    linear = {
        f"model.layers.{i}.{'mlp' if n[0] in 'gud' else 'self_attn'}.{n}": s
        for i in range(layers)
        for n, s in shapes.items()
    }
    infos = [TensorInfo("model.embed_tokens.weight", "BF16", (VOCAB, HIDDEN))]
    infos += [TensorInfo(f"{n}.weight", "BF16", s) for n, s in linear.items()]
    infos += [TensorInfo("lm_head.weight", "BF16", (VOCAB, HIDDEN))]
    if not base.exists():
        _write(base, infos, 2 * 10**9)
        config = {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}
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
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank * 1.5}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path("bench-models"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # In a process of its own: a child's peak begins with what its parent had when it forked.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        base, adapter = pool.submit(make, options.folder, options.gigabytes, options.rank).result()
    out = options.folder / "out"
    names = {"root": str(ROOT), "base": str(base), "adapter": str(adapter), "out": str(out)}
    commands = {
        "cp -r": ["cp", "-r", str(base), str(out)],
        "cp -r and sync": ["sh", "-c", f"cp -r '{base}' '{out}' && sync -f '{out}'"],
        "bare fp32 products": [sys.executable, "-c", PRODUCTS.format(**names)],
        "hanlin merge": [sys.executable, "-c", MERGE.format(**names)],
    }
    best = {name: (float("inf"), 0.0, 0.0) for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            best[name] = min(best[name], timed(command))
    shutil.rmtree(out, ignore_errors=True)
    print(f"| {options.gigabytes} GB, rank {options.rank} | seconds | CPU s | peak MiB |")
    print("|---|---|---|---|")
    for name, (seconds, cpu, peak) in best.items():
        print(f"| {name} | {seconds:.2f} | {cpu:.2f} | {peak:.0f} |")
    for copy in ("cp -r", "cp -r and sync"):
        limit = best[copy][0] + best["bare fp32 products"][0]
        print(f"merge / ({copy} + products) = {best['hanlin merge'][0] / limit:.2f}")


if __name__ == "__main__":
    main()
