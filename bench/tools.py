"""How each tool is called for the same work; heavy imports stay in the process that is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.process import Command

ROOT = Path(__file__).parent.parent
DIALOGUES = ROOT / "assistants" / "calibration" / "exam.jsonl"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

PRODUCTS = """
from pathlib import Path
import numpy as np
from convert.weights.safetensors_files import SafetensorsFolder
with SafetensorsFolder(Path({base})) as base:
    for info in base.infos.values():
        if "_proj" in info.name:
            rows, columns = info.shape
            b, a = (np.full(s, 0.5, np.float32) for s in ((rows, {rank}), ({rank}, columns)))
            np.matmul(b, a)
"""
PEFT = """
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({base}, dtype=torch.bfloat16)
PeftModel.from_pretrained(model, {adapter}).merge_and_unload().save_pretrained({out})
"""
TEXT = """
from pathlib import Path
from convert.forward.calibration import read_calibration
from convert.forward.chat import read_chat
from convert.quantize.lmdeploy_tool import Run
from convert.quantize.settings import Settings
model, dialogues = Path({base}), Path({dialogues})
settings, chat = Settings(samples={samples}, seqlen={seqlen}), read_chat(model)
text = read_calibration(dialogues, chat, samples=settings.samples, seqlen=settings.seqlen)
Run(model, Path({folder}), text, settings).prepare(chat, dialogues)
"""
"""The text LMDeploy is calibrated on, as `hanlin quantize --tool lmdeploy` gives it."""


@dataclass(frozen=True, slots=True)
class Work:
    """One model to merge or to quantise, in a folder where everything happens."""

    folder: Path
    base: Path
    adapter: Path
    rank: int
    samples: int
    seqlen: int

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def _script(self, text: str) -> list[str]:
        names = {"base": self.base, "adapter": self.adapter, "out": self.out,
                 "folder": self.folder, "dialogues": DIALOGUES}  # fmt: skip
        numbers = {"rank": self.rank, "samples": self.samples, "seqlen": self.seqlen}
        filled = text.format(**{n: repr(str(p)) for n, p in names.items()}, **numbers)
        return [sys.executable, "-c", filled]

    def _command(
        self, *arguments: object, environment: Mapping[str, str] | None = None, leaves: bool = True
    ) -> Command:
        result = self.out if leaves else None
        # Its own code is found from a folder that is not the repository.
        path = {"PYTHONPATH": str(ROOT)} if arguments[0] == sys.executable else {}
        found = {**OFFLINE, **path, **(environment or {})}
        return Command([str(a) for a in arguments], self.folder, result, found)

    def merges(self) -> dict[str, Command]:
        """By name of the tool; those of other environments where they are named."""
        found = {
            "`cp -r`": self._command("cp", "-r", self.base, self.out),
            "bare fp32 products": self._command(*self._script(PRODUCTS), leaves=False),
            "`hanlin merge`": self._command(
                sys.executable, "-m", "hanlin", "merge", self.base, self.adapter, self.out
            ),
            f"PEFT {version(sys.executable, 'peft')}": self._command(*self._script(PEFT)),
        }
        if xtuner := os.environ.get("HANLIN_XTUNER_PYTHON"):
            bin_ = Path(xtuner).parent
            found[f"XTuner {version(xtuner, 'xtuner')}"] = self._command(
                bin_ / "xtuner", "convert", "merge", self.base, self.adapter, self.out,
                "--device", "cpu", "--safe-serialization",
                environment={"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"},
            )  # fmt: skip
        return found

    def quantisations(self) -> dict[str, Command]:
        """By name of the tool; LMDeploy where it is named, on the same windows of text."""
        found = {
            "`cp -r`": self._command("cp", "-r", self.base, self.out),
            "`hanlin quantize`": self._command(
                sys.executable, "-m", "hanlin", "quantize", self.base, self.out,
                "--calibration", DIALOGUES, "--samples", self.samples, "--seqlen", self.seqlen,
            ),
        }  # fmt: skip
        if lmdeploy := os.environ.get("HANLIN_LMDEPLOY_PYTHON"):
            if not (self.folder / "wikitext").exists():
                subprocess.run(self._script(TEXT), cwd=ROOT, check=True)
            found[f"LMDeploy {version(lmdeploy, 'lmdeploy')}"] = self._command(
                lmdeploy, "-m", "lmdeploy", "lite", "auto_awq", self.base, "--work-dir", self.out,
                "--calib-dataset", "wikitext2", "--calib-samples", self.samples,
                "--calib-seqlen", self.seqlen, "--batch-size", "1", "--device", "cpu",
                "--dtype", "float16",
            )  # fmt: skip
        return found


def made(folder: Path, gigabytes: float, rank: int) -> tuple[Path, Path]:
    """A base and its adapter; for a process of its own, as a child's peak begins with what its
    parent has."""
    from bench.models import make

    return make(folder, gigabytes, rank)


def version(python: str, package: str) -> str:
    """What is installed in that environment."""
    code = f"import importlib.metadata as m, json; print(json.dumps(m.version({package!r})))"
    done = subprocess.run([python, "-c", code], capture_output=True, check=True)
    return str(json.loads(done.stdout))
