"""Held against the real LMDeploy: its loader takes what we make, its quantiser errs more.

HANLIN_LMDEPLOY_PYTHON names a Python with lmdeploy 0.18, `datasets` and what that needs; the
loader's test also needs a libcuda.so.1 in LD_LIBRARY_PATH (no GPU).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from convert.errors import ConvertError
from convert.forward.checkpoint import open_checkpoint
from convert.geometry import Role
from convert.quantize import Settings, quantize
from convert.quantize.lmdeploy_tool import PYTHON
from tests.convert.quantize.conftest import Make

LMDEPLOY = os.environ.get(PYTHON, "")  # read before a fixture clears the environment
DRY_RUN = Path(__file__).parents[3] / "convert" / "verify" / "dry_run.py"
SMALL = Settings(samples=8, seqlen=64, threads=1, limit=0.5)
THEIRS = Settings(samples=8, seqlen=64, threads=1, limit=0.5, tool="lmdeploy")

pytestmark = [
    pytest.mark.lmdeploy,
    pytest.mark.skipif(not LMDEPLOY, reason=f"needs LMDeploy; name its Python with {PYTHON}"),
    pytest.mark.timeout(600),
]


@pytest.fixture(autouse=True)
def with_lmdeploy(monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> None:
    monkeypatch.setenv(PYTHON, LMDEPLOY)


def dry_run(folder: Path, work: Path) -> Any:
    """What TurboMind's loader says of a folder."""
    able = "from lmdeploy.turbomind import is_available as a; raise SystemExit(not a())"
    if subprocess.run([LMDEPLOY, "-c", able], capture_output=True, check=False).returncode:
        pytest.skip("needs a libcuda.so.1 in LD_LIBRARY_PATH to load TurboMind")
    settings, report = work / "settings.json", work / "report.json"
    settings.write_text("{}")
    done = subprocess.run(
        [LMDEPLOY, str(DRY_RUN), str(folder), str(settings), str(report)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert report.exists(), done.stderr[-2000:]
    return json.loads(report.read_text())


@pytest.mark.parametrize(
    ("arch", "changes"),
    [
        ("LlamaForCausalLM", {}),
        ("Qwen2ForCausalLM", {}),
        ("Qwen3ForCausalLM", {}),
        ("InternLM2ForCausalLM", {}),
        ("LlamaForCausalLM", {"hidden_size": 192, "intermediate_size": 288,
                              "num_attention_heads": 3, "num_key_value_heads": 1}),
    ],
    ids=["llama", "qwen2", "qwen3", "internlm2", "compressed-tensors"],
)  # fmt: skip
def test_turbomind_loads_what_we_make(
    make_model: Make, dialogues: Path, tmp_path: Path, arch: str, changes: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    quantize(make_model(arch, **changes), out, calibration=dialogues, settings=SMALL)
    report = dry_run(out, tmp_path)
    assert report.get("error") is None
    wanted = "awq" if not changes else "compressed-tensors"
    assert report["model_format"] == wanted
    assert report["dtype"] == "bfloat16"
    assert all(name.endswith(".weight_shape") for name in report["left"])


MEANT = """
import glob, sys, torch
from safetensors.torch import load_file

tensors = {}
for path in glob.glob(sys.argv[1] + "/*.safetensors"):
    tensors |= load_file(path)
at = sys.argv[2]
from lmdeploy.turbomind.weight_format import AWQFormat
awq = AWQFormat(block_in=128)
there = {kind: tensors[at + s] for s, kind in awq.suffix_map.items() if at + s in tensors}
parts = {kind: awq.normalize(tensor, kind).float() for kind, tensor in there.items()}
torch.save(awq.dequant(parts, torch.float32)["weight"].t().contiguous(), sys.argv[3])
"""


def test_both_checkpoints_mean_what_turbomind_reads(
    make_model: Make, dialogues: Path, tmp_path: Path
) -> None:
    """Our dequantiser and TurboMind's own, on our checkpoint and on LMDeploy's."""
    model = make_model()
    for name, settings in (("ours", SMALL), ("theirs", THEIRS)):
        quantize(model, tmp_path / name, calibration=dialogues, settings=settings)
        saved = tmp_path / f"{name}.pt"
        script = [LMDEPLOY, "-c", MEANT, str(tmp_path / name), "model.layers.1.mlp.up_proj", saved]
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        if "libcuda" in done.stderr:
            pytest.skip("needs a libcuda.so.1 in LD_LIBRARY_PATH to load TurboMind")
        assert done.returncode == 0, done.stderr[-2000:]
        wanted = torch.load(saved, weights_only=True)
        with open_checkpoint(tmp_path / name) as checkpoint:
            found = checkpoint.layer(1, "cpu").weights[Role.up]
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_our_error_is_not_greater_than_lmdeploys(
    make_model: Make, dialogues: Path, tmp_path: Path
) -> None:
    model = make_model()
    ours = quantize(model, tmp_path / "ours", calibration=dialogues, settings=SMALL)
    theirs = quantize(model, tmp_path / "theirs", calibration=dialogues, settings=THEIRS)
    for mine, other in zip(ours.fidelity.layers, theirs.fidelity.layers, strict=True):
        assert mine.own <= other.own
        assert mine.carried <= other.carried
    assert not list((tmp_path / "theirs").glob("*.pth"))
    assert (tmp_path / "theirs" / "chat_template.jinja").exists()


def test_what_lmdeploy_fails_at_is_said(make_model: Make, dialogues: Path, tmp_path: Path) -> None:
    model = make_model()
    config = json.loads((model / "config.json").read_text())
    config["model_type"] = "nosuchtype"
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ConvertError,
        match=r"LMDeploy left no weights \(exit code \d+\); it said last: .*nosuchtype",
    ):
        quantize(model, tmp_path / "out", calibration=dialogues, settings=THEIRS)
    assert not (tmp_path / "out").exists()
