"""Runs TurboMind's own loading code over a folder without a GPU; a script for another interpreter.

    python dry_run.py FOLDER SETTINGS.json REPORT.json

It imports nothing of this project, because it runs where LMDeploy is installed and this project
need not be. What is real: the configuration, architecture and quantisation checks, the choice of
files, the weight formats, the fusing, padding and splitting over ranks. What is put in its place:
tensors are shapes without numbers, so that a model of any size takes seconds; the question to the
GPU which kernels it has; and the C++ modules that take the finished tensors, which here only count
bytes. LMDeploy's checks may end the process, so whoever starts it must look for REPORT.json.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ALIGN = 8
"""16 bytes of half-precision numbers: what kernels are taken to want of a matrix's sides."""


def turbomind(name: str = "") -> Any:
    """A module of LMDeploy's; only the other interpreter has it."""
    return importlib.import_module(f"lmdeploy.turbomind{name}")


class Counter:
    """Stands where C++ modules would: remembers how many bytes each rank was given."""

    def __init__(self) -> None:
        self.rank = 0
        self.modules = 0
        self.by_rank: dict[int, int] = defaultdict(int)

    def create(self, config: Any) -> Module:
        self.modules += self.rank == 0
        return Module(self)

    def take(self, module: Module, name: str, shard: Any, **how: Any) -> None:
        self.by_rank[module.rank] += shard.numel() * shard.element_size()


class Module:
    """One module on one rank."""

    def __init__(self, counter: Counter) -> None:
        self.rank = counter.rank

    def set_plan(self, plan: Any) -> None:
        return None

    def add_child_raw(self, name: str, child: Module) -> None:
        return None


class Device:
    """One rank's GPU, entered while something is made on it."""

    def __init__(self, counter: Counter, rank: int) -> None:
        self.counter, self.rank = counter, rank

    def __enter__(self) -> None:
        self.counter.rank = self.rank

    def __exit__(self, *_: object) -> None:
        self.counter.rank = 0


class Plan:
    """What a GPU would answer when asked for a kernel for one kind of weight."""

    family = "assumed"

    def __init__(self, query: Any) -> None:
        invalid = turbomind()._tm.DataType.TYPE_INVALID
        self.bridge = (1, 1, invalid, invalid)
        group = max(query.weight_format.block_sizes)
        self.shape_constraints = ((1, 1), (max(ALIGN, group), ALIGN))

    def gate_up(self, activation: Any, outputs: int) -> int:
        return 0


class Seen:
    """A checkpoint that remembers what was asked of it."""

    def __init__(self, checkpoint: Any) -> None:
        self.checkpoint = checkpoint
        self.left = set(checkpoint.keys())

    def get(self, key: str, index: Any = None) -> Any:
        self.left.discard(key)
        return self.checkpoint.get(key, index=index)

    def pop(self, key: str, index: Any = None) -> Any:
        self.left.discard(key)
        return self.checkpoint.pop(key, index=index)

    def has(self, key: str) -> bool:
        return bool(self.checkpoint.has(key))


def without_gpu(counter: Counter) -> None:
    """Replace what would need one."""
    torch = importlib.import_module("torch")
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor.to("meta")
    base = turbomind(".builders._base")
    turbomind()._tm.create_module = counter.create
    base._copy_shard_to_param = counter.take
    base.Builder._query_gemm = lambda self, query: Plan(query)
    turbomind(".converter")._get_executable_dtypes = lambda *_: {"bfloat16", "float16"}


def bind(model: Any, dtype: Any, counter: Counter, tp: int) -> None:
    """Give the model the ranks it is to be spread over."""
    base = turbomind(".builders._base")
    ranks = list(range(tp))
    devices = [Device(counter, rank) for rank in ranks]
    context = base.Context(devices, None, dtype, turbomind()._tm.DataType.TYPE_INVALID)
    all_ranks = base.ParallelGroup(tp, ranks)
    model.bind_runtime(
        ctx=context,
        root_handles=[Module(counter) for _ in ranks],
        attn_tp=all_ranks,
        mlp_tp=all_ranks,
        ep=base.ParallelGroup(1, [0] * tp),
        model_tp=all_ranks,
        dense_tp=all_ranks,
    )


def engine_config(settings: dict[str, Any]) -> Any:
    """LMDeploy's own configuration object, whose construction checks the values."""
    known = ("tp", "session_len", "quant_policy", "cache_max_entry_count", "max_batch_size")
    given = {key: settings[key] for key in (*known, "dtype", "model_format") if key in settings}
    config = importlib.import_module("lmdeploy.messages").TurbomindEngineConfig(**given)
    config.devices = list(range(config.tp))
    config.attn_tp_size = config.mlp_tp_size = config.tp
    return config


def chat_template(folder: str) -> str:
    """The template LMDeploy would choose: `hf` is the folder's own, `base` is none at all."""
    models = importlib.import_module("lmdeploy.model").MODELS.module_dict
    found = (name for name, model in models.items() if model.match(folder))
    return next(found, "base")


def load(folder: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The loader's course as far as a GPU is not needed."""
    if not turbomind(".supported_models").is_supported(folder):
        raise ValueError(f"TurboMind does not support the model in {folder}.")
    counter = Counter()
    without_gpu(counter)
    config = engine_config(settings)
    model, _, dtype = turbomind(".converter").get_tm_config(folder, config)
    bind(model, dtype, counter, config.tp)
    files = turbomind(".checkpoint")
    seen = Seen(files.create_checkpoint(folder, mappings=getattr(model, "_loader_mappings", [])))
    model.model(files.Prefix(seen))
    return {
        "lmdeploy": importlib.import_module("lmdeploy").__version__,
        "modules": counter.modules,
        "bytes": [counter.by_rank[rank] for rank in range(config.tp)],
        "left": sorted(seen.left),
        "dtype": config.dtype,
        "model_format": config.model_format or "hf",
        "chat_template": chat_template(folder),
    }


def main(folder: str, settings: str, report: str) -> int:
    try:
        found = load(folder, json.loads(Path(settings).read_text(encoding="utf-8")))
    except Exception as error:  # noqa: BLE001 - whatever LMDeploy raises is the answer
        found = {"error": f"{type(error).__name__}: {error}"}
    Path(report).write_text(json.dumps(found), encoding="utf-8")
    return 1 if "error" in found else 0


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        code = main(*sys.argv[1:4])
    sys.exit(code)
