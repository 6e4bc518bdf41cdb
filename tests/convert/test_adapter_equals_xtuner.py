"""Held against `xtuner convert pth_to_hf` of XTuner 0.2.0, run on the checkpoints it has written.

XTuner needs its configuration, the base model and, on a CPU, one attribute that its torch lacks;
ours needs the checkpoint alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from safetensors.torch import load_file  # noqa: E402

from convert.checkpoint import convert_adapter  # noqa: E402
from tests.convert.xtuner_process import (  # noqa: E402
    configuration_for,
    models_for_xtuner,
    needs_xtuner,
    pth_to_hf,
)

pytestmark = [pytest.mark.xtuner, needs_xtuner, pytest.mark.timeout(600)]

MADE_WITH = {
    "xtuner020_qwen2_lora_iter_32.pth": "tiny_qwen2_lora.py",
    "xtuner020_internlm2_lora_iter_32.pth": "tiny_internlm2_lora.py",
    "xtuner020_qwen2_full_iter_32.pth": "tiny_qwen2_full.py",
    "ds_zero2_iter_32.pth": "tiny_qwen2_lora_ds.py",
    "ds_zero3_iter_32.pth": "tiny_qwen2_lora_ds.py",
}


def theirs(shared: Path, tmp_path: Path, name: str) -> Path:
    """What XTuner makes of a checkpoint, in fp32."""
    models = models_for_xtuner(shared, tmp_path / "models")
    config = configuration_for(shared, MADE_WITH[name], models, tmp_path / "config.py")
    out = tmp_path / "theirs"
    given = shared / "data" / "xtuner" / name
    done = pth_to_hf(tmp_path, config, given, out, "--fp32", "--safe-serialization")
    assert list(out.glob("*.safetensors")), done.stderr[-2000:]
    return out


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
