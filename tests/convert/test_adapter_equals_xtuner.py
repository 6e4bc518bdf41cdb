"""Held against `xtuner convert pth_to_hf` of XTuner 0.2.0, run on the checkpoints it has written.

XTuner needs its configuration, the base model and, on a CPU, one attribute that its torch lacks;
ours needs the checkpoint alone. HANLIN_XTUNER_PYTHON names the interpreter that has XTuner.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from safetensors.torch import load_file  # noqa: E402

from convert.checkpoint import convert_adapter  # noqa: E402

pytestmark = [pytest.mark.xtuner, pytest.mark.timeout(600)]

XTUNER = os.environ.get("HANLIN_XTUNER_PYTHON")
TOOL = "xtuner.tools.model_converters.pth_to_hf"
ON_CPU = """
import runpy, sys, torch
torch.cpu.is_bf16_supported = lambda *_: True
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
MADE_WITH = {
    "xtuner020_qwen2_lora_iter_32.pth": "tiny_qwen2_lora.py",
    "xtuner020_internlm2_lora_iter_32.pth": "tiny_internlm2_lora.py",
    "xtuner020_qwen2_full_iter_32.pth": "tiny_qwen2_full.py",
    "ds_zero2_iter_32.pth": "tiny_qwen2_lora_ds.py",
    "ds_zero3_iter_32.pth": "tiny_qwen2_lora_ds.py",
}


def theirs(shared: Path, tmp_path: Path, name: str) -> Path:
    """What XTuner makes of a checkpoint, in fp32."""
    if not XTUNER:
        pytest.skip("needs the real XTuner; name its python with HANLIN_XTUNER_PYTHON")
    given = shared / "data" / "xtuner"
    models = tmp_path / "models"
    shutil.copytree(shared / "data" / "models", models)
    _remote_code(Path(XTUNER), models / "tiny-internlm2")
    config = tmp_path / "config.py"
    text = (given / MADE_WITH[name]).read_text()
    config.write_text(text.replace("/srv/finetunes/models", str(models)))
    out = tmp_path / "theirs"
    command = [XTUNER, "-c", ON_CPU, TOOL, str(config), str(given / name), str(out)]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "--fp32", "--safe-serialization"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert list(out.glob("*.safetensors")), done.stderr[-2000:]
    return out


def _remote_code(python: Path, folder: Path) -> None:
    """The InternLM2 model has none with it; XTuner ships the same code for its reward models."""
    package = python.parent.parent.glob("lib/python*/site-packages/xtuner/tools/model_converters")
    for path in (next(package) / "modeling_internlm2_reward").glob("*internlm2.py"):
        shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pretraining_tp": 1}))


def state(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("*.safetensors")
    found: dict[str, Any] = load_file(file)
    return found


@pytest.mark.parametrize("name", MADE_WITH)
def test_the_same_tensors(shared: Path, tmp_path: Path, name: str) -> None:
    reference = theirs(shared, tmp_path, name)
    base = tmp_path / "models" / "tiny-qwen2"
    options: dict[str, Any] = {"base": base} if "full" in name else {}
    made = convert_adapter(shared / "data" / "xtuner" / name, tmp_path / "ours", **options)
    ours, expected = state(made.folder), state(reference)
    assert ours.keys() == expected.keys()
    for key, tensor in expected.items():
        # XTuner passes everything in a DeepSpeed folder through fp16, whatever it is told.
        found = ours[key].half().float() if name.startswith("ds_") else ours[key]
        assert torch.equal(found, tensor), key
    if made.kind == "adapter":
        same_configuration(made.folder, reference)


def same_configuration(ours: Path, theirs: Path) -> None:
    """All that decides what the factors mean; PEFT adds what its own version knows of besides."""
    found, expected = (
        json.loads((folder / "adapter_config.json").read_text()) for folder in (ours, theirs)
    )
    paths = (found.pop("base_model_name_or_path"), expected.pop("base_model_name_or_path"))
    assert Path(paths[0]).name == Path(paths[1]).name
    assert sorted(found.pop("target_modules")) == sorted(expected.pop("target_modules"))
    assert found.items() <= expected.items()
