"""The real XTuner, run as its users run it.

HANLIN_XTUNER_PYTHON names the interpreter that has it; `make test-xtuner` makes one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

XTUNER = os.environ.get("HANLIN_XTUNER_PYTHON", "")  # a fixture clears the environment later

needs_xtuner = pytest.mark.skipif(
    not XTUNER,
    reason="needs the real XTuner: make test-xtuner, or name its Python in HANLIN_XTUNER_PYTHON",
)

_CONVERTERS = "xtuner.tools.model_converters"
_ON_CPU = """
import runpy, sys, torch
torch.cpu.is_bf16_supported = lambda *_: True
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""

Done = subprocess.CompletedProcess[str]


def xtuner(folder: Path, *arguments: object) -> Done:
    """`xtuner ARGUMENTS…` in a folder; it starts whatever `python` comes first in PATH."""
    return _run(folder, Path(XTUNER).with_name("xtuner"), *arguments)


def merge(folder: Path, *arguments: object) -> Done:
    """What `xtuner convert merge` starts, in half its time: XTuner is imported once."""
    return _run(folder, XTUNER, "-m", f"{_CONVERTERS}.merge", *arguments)


def pth_to_hf(folder: Path, *arguments: object) -> Done:
    """What `xtuner convert pth_to_hf` starts, with the one attribute that it misses on a CPU."""
    return _run(folder, XTUNER, "-c", _ON_CPU, f"{_CONVERTERS}.pth_to_hf", *arguments)


def _run(folder: Path, *command: object) -> Done:
    environment = os.environ | {
        "PATH": f"{Path(XTUNER).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def models_for_xtuner(shared: Path, folder: Path) -> Path:
    """Copies of the tiny models; the InternLM2 one with remote code, which transformers has not.

    It has none with it, but XTuner ships the same code for its reward models.
    """
    shutil.copytree(shared / "data" / "models", folder)
    package = Path(XTUNER).parent.parent.glob("lib/python*/site-packages/xtuner")
    code = next(package) / "tools" / "model_converters" / "modeling_internlm2_reward"
    internlm2 = folder / "tiny-internlm2"
    for path in code.glob("*internlm2.py"):
        shutil.copyfile(path, internlm2 / path.name)
    config = json.loads((internlm2 / "config.json").read_text())
    (internlm2 / "config.json").write_text(json.dumps(config | {"pretraining_tp": 1}))
    return folder


def configuration_for(shared: Path, name: str, models: Path, path: Path) -> Path:
    """The configuration a checkpoint was trained with, its base found where the models are."""
    text = (shared / "data" / "xtuner" / name).read_text()
    path.write_text(text.replace("/srv/finetunes/models", str(models)))
    return path
