"""`lmdeploy lite auto_awq` as the quantiser, for those who want the reference.

It is run as a program of its own and believed in nothing: what it leaves is checked tensor by
tensor, judged like our own work, and only its weights are kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.companions import write_companions
from convert.errors import ConvertError, UnsupportedError
from convert.fidelity.quantised import judge
from convert.forward.calibration import Calibration, read_calibration, used_dialogues
from convert.forward.chat import Chat, read_chat
from convert.forward.checkpoint import Checkpoint, open_checkpoint
from convert.forward.layout import AwqGemm
from convert.progress import Progress
from convert.publish import locked, require_new, staged
from convert.quantize.device import computing, settled
from convert.quantize.report import Quantised
from convert.quantize.settings import Settings
from convert.weights.model_folder import read_json
from convert.weights.output import write_text
from convert.weights.safetensors_files import INDEX

PYTHON = "HANLIN_LMDEPLOY_PYTHON"
"""Names the Python that has LMDeploy; without it, the one that runs this is asked."""

_DATASET = "wikitext"
"""LMDeploy reads only data sets it knows by name. The `datasets` package prefers a folder of that
name in the working directory to the hub, so that folder is made from the dialogues."""

_CARD = """---
configs:
- config_name: wikitext-2-raw-v1
  data_files:
  - split: train
    path: train.jsonl
---
"""


def by_lmdeploy(
    model: Path, out: Path, calibration: Path, settings: Settings, progress: Progress
) -> Quantised:
    """`convert.quantize.quantize`, once PyTorch is known to be here."""
    out = out.absolute()
    require_new(out)
    with open_checkpoint(model) as checkpoint:
        _refuse(checkpoint)
        layers = sum(map(checkpoint.layer_bytes, range(checkpoint.geometry.layers)))
        layer = checkpoint.layer_bytes(0)
        settings = settled(settings, layer)
    chat = read_chat(model)
    text = read_calibration(calibration, chat, samples=settings.samples, seqlen=settings.seqlen)
    with locked(out), staged(out) as folder, tempfile.TemporaryDirectory(dir=out.parent) as work:
        run = Run(model.absolute(), Path(work), text, settings)
        run.prepare(chat, calibration)
        run.carry_out(progress)
        quantization = run.collect(folder)
        with open_checkpoint(folder) as quantised:
            check(quantised, model)
        task = progress.task(f"judge {model.name}", layers)
        with computing(settings, layer):
            fidelity = judge(model, folder, text.held, device=settings.device, task=task)
        fidelity.demand(settings.limit)
    return Quantised(out, settings, quantization, text, fidelity)


def _refuse(checkpoint: Checkpoint) -> None:
    for name, (outputs, inputs) in checkpoint.shapes().items():
        if inputs % AwqGemm().group or outputs % 8:
            raise UnsupportedError(
                f"{name} is {outputs}×{inputs}: LMDeploy quantises only inputs in groups of 128; "
                "use --tool hanlin, which has a layout for it."
            )


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the program."""

    model: Path
    folder: Path
    """Where it works, with the text it is calibrated on."""
    text: Calibration
    settings: Settings

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def prepare(self, chat: Chat, calibration: Path) -> None:
        """The text, as a data set LMDeploy will take."""
        data = self.folder / _DATASET
        data.mkdir()
        write_text(data / "README.md", _CARD)
        rows = (json.dumps({"text": chat.text(d)}) for d in used_dialogues(calibration))
        write_text(data / "train.jsonl", "\n".join(rows) + "\n")

    @property
    def command(self) -> list[str]:
        windows, positions = self.text.used.shape
        command = [
            os.environ.get(PYTHON, sys.executable), "-m", "lmdeploy", "lite", "auto_awq",
            str(self.model), "--work-dir", str(self.output),
            "--calib-dataset", "wikitext2", "--calib-samples", str(windows),
            "--calib-seqlen", str(positions), "--batch-size", "1",
            "--w-bits", "4", "--w-group-size", str(AwqGemm().group),
            "--device", self.settings.device,
        ]  # fmt: skip
        if self.settings.device != "cpu":
            return [*command, "--search-scale"]
        # Asked for bf16, it asks CUDA whether it can. And its search keeps a weight to restore with
        # `.cpu()`, which on a CPU is the weight itself: every candidate's scaling would stay in it.
        return [*command, "--dtype", "float16"]

    def carry_out(self, progress: Progress) -> None:
        """Run it; its exit code says nothing, so what it wrote last is kept for the sentence."""
        environment = {**os.environ, "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
        if self.settings.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.settings.threads)
        task = progress.task(f"lmdeploy {self.model.name}", None)
        last: deque[str] = deque(maxlen=3)
        with subprocess.Popen(
            self.command, cwd=self.folder, env=environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                task.advance(len(line))
                last.append(line.strip())
        if not list(self.output.glob("*.safetensors")):
            raise ConvertError(
                f"LMDeploy left no weights (exit code {process.returncode}); it said last: "
                f"{' | '.join(last) or 'nothing'}. Name a Python that has lmdeploy with {PYTHON}."
            )

    def collect(self, folder: Path) -> dict[str, Any]:
        """Keep the weights; everything else is taken from the model, whose files it rewrites."""
        config = read_json(self.output / "config.json")
        quantization = config.get("quantization_config")
        if not isinstance(quantization, dict):
            raise ConvertError("LMDeploy's config.json has no quantization_config.")
        own = read_json(self.model / "config.json")
        key = "dtype" if "dtype" in own else "torch_dtype"
        dtype = config.get("dtype") or config.get("torch_dtype")
        write_companions(
            self.model, folder, {**own, key: dtype, "quantization_config": quantization}
        )
        for path in (*self.output.glob("*.safetensors"), *self.output.glob(INDEX)):
            path.rename(folder / path.name)
        return quantization


def check(quantised: Checkpoint, model: Path) -> None:
    """Whether every matrix of the model is there as AWQ in the shape it must have."""
    found = quantised.source.infos
    if quantised.config["quantization_config"] != AwqGemm().config():
        raise ConvertError(
            f"LMDeploy quantised as {quantised.config['quantization_config']}, which is not the "
            "AWQ that was asked for."
        )
    with open_checkpoint(model) as original:
        shapes = original.shapes()
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        for mark, wanted in _stored(shape).items():
            info = found.get(f"{module}.{mark}")
            if info is None or info.shape != wanted:
                raise ConvertError(
                    f"LMDeploy left {module}.{mark} as {info.shape if info else 'nothing'}, where "
                    f"{wanted} belongs."
                )


def _stored(shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    outputs, inputs = shape
    groups = inputs // AwqGemm().group
    return {"qweight": (inputs, outputs // 8), "qzeros": (groups, outputs // 8),
            "scales": (groups, outputs)}  # fmt: skip
