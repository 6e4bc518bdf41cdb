"""`turbomind.quantize: awq` becomes a 4-bit workspace that says how close it is to the original."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assistants import load_house
from convert.errors import BuildError
from convert.plan import describe
from convert.quantize import Settings
from convert.run import build, plans
from convert.verify import verify
from tests.convert.quantize.conftest import sizes, write_model

pytestmark = pytest.mark.timeout(900)  # minutes where the processor is shared

SIZES = sizes("LlamaForCausalLM", hidden=256, inner=384, heads=4, kv=2, dim=64)
DECLARED = """\
name: tiny
title: T
description: T
model: {base: hanlin-mini}
turbomind: {quantize: awq, session_len: 512}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "assistants"
    (folder / "calibration").mkdir(parents=True)
    (folder / "tiny.yaml").write_text(DECLARED, encoding="utf-8")
    return folder


def test_the_shipped_dialogues_make_a_workspace_that_keeps_every_rule(
    folder: Path, tmp_path: Path, root: Path
) -> None:
    dialogues = (root / "assistants/calibration/exam.jsonl").read_text(encoding="utf-8")
    some = "\n".join(dialogues.splitlines()[:40])
    (folder / "calibration/tiny.jsonl").write_text(some, encoding="utf-8")
    house, workspaces = load_house(folder), tmp_path / "ws"
    wanted = Settings(samples=16, seqlen=128)
    (made,) = build(house, engine="turbomind", workspaces=workspaces, quantising=wanted)
    assert json.loads((made.folder / "engine.json").read_text())["model_format"] == "awq"
    config = json.loads((made.folder / "config.json").read_text())
    assert config["quantization_config"]["bits"] == 4
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["quantization"]["fidelity"]
    report = verify(made.folder, loader=False)
    assert report.ok, list(report.findings)
    assert [path.name for path in (workspaces / "tiny").iterdir() if path.name[0] != "."] == [
        "turbomind"
    ]

    (again,) = build(house, engine="turbomind", workspaces=workspaces, quantising=wanted)
    assert not again.rebuilt
    changed = DECLARED.replace("session_len: 512", "session_len: 256")
    (folder / "tiny.yaml").write_text(changed, encoding="utf-8")
    weights = (made.folder / "model-00002-of-00009.safetensors").stat().st_ino
    (resettled,) = build(
        load_house(folder), engine="turbomind", workspaces=workspaces, quantising=wanted
    )
    assert resettled.rebuilt
    assert (made.folder / "model-00002-of-00009.safetensors").stat().st_ino == weights
    assert verify(made.folder, loader=False).ok


def test_without_dialogues_it_is_one_sentence_before_anything_is_made(
    folder: Path, tmp_path: Path
) -> None:
    house = load_house(folder)
    with pytest.raises(BuildError, match=r"calibration/tiny\.jsonl.*turbomind\.calibration"):
        plans(house, engine="turbomind", workspaces=tmp_path / "ws")
    assert not (tmp_path / "ws").exists()
    assert plans(house, engine="llamacpp", workspaces=tmp_path / "ws")


@pytest.fixture
def small(folder: Path, tmp_path: Path, root: Path) -> Path:
    """The same assistant on a base of three layers."""
    pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
    changes = {"num_hidden_layers": 3}
    write_model(tmp_path / "base", SIZES | changes, "BF16")
    declared = DECLARED.replace("hanlin-mini", str(tmp_path / "base"))
    (folder / "tiny.yaml").write_text(declared, encoding="utf-8")
    lines = (root / "assistants/calibration/exam.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "calibration/tiny.jsonl").write_text("\n".join(lines[:20]), encoding="utf-8")
    return folder


BUILDER = """
import sys
from pathlib import Path
from assistants import load_house
from convert.progress import Unwatched
from convert.quantize import Settings
from convert.run import build

class Stopping(Unwatched):
    def task(self, label, total_bytes):
        self.quantising, self.seen = label.startswith("quantize"), 0
        return self

    def advance(self, n):
        self.seen += 1
        if self.quantising and self.seen == 3:  # what belongs to no layer, and two layers
            print("half way", flush=True)
            sys.stdin.read()

build(load_house(Path(sys.argv[1])), engine="turbomind", workspaces=Path(sys.argv[2]),
      progress=Stopping(), quantising=Settings(samples=8, seqlen=64, limit=None))
"""


def killed_half_way(folder: Path, workspaces: Path, root: Path) -> None:
    """kill -9 after two of three layers."""
    command = [sys.executable, "-c", BUILDER, str(folder), str(workspaces)]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half way\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)


def test_a_build_killed_half_way_goes_on_where_it_was(
    small: Path, tmp_path: Path, root: Path
) -> None:
    killed_half_way(small, tmp_path / "ws", root)
    beside = tmp_path / "ws/tiny"
    assert not (beside / "turbomind").exists()
    finished = {
        path.name: path.stat().st_ino
        for path in (beside / ".turbomind.awq.quantizing/model").glob("*.safetensors")
    }
    assert sorted(finished) == [f"model-{n:05}-of-00004.safetensors" for n in range(1, 4)]

    house = load_house(small)
    # Random weights are further from themselves in 4 bits than any trained ones.
    wanted = Settings(samples=8, seqlen=64, limit=None)
    (resumed,) = build(house, engine="turbomind", workspaces=tmp_path / "ws", quantising=wanted)
    (whole,) = build(house, engine="turbomind", workspaces=tmp_path / "whole", quantising=wanted)
    inodes = {name: (resumed.folder / name).stat().st_ino for name in finished}
    assert inodes == finished  # the same files, not files made again
    for path in whole.folder.iterdir():
        if path.name != "manifest.json":  # which says when it was made
            assert (resumed.folder / path.name).read_bytes() == path.read_bytes(), path.name
    made, again = (json.loads((w.folder / "manifest.json").read_text()) for w in (whole, resumed))
    assert made | {"created": 0} == again | {"created": 0}
    assert [path.name for path in beside.iterdir() if path.name[0] != "."] == ["turbomind"]


def test_what_a_given_up_quantisation_left_is_removed(
    small: Path, tmp_path: Path, root: Path
) -> None:
    killed_half_way(small, tmp_path / "ws", root)
    declared = (small / "tiny.yaml").read_text(encoding="utf-8")
    (small / "tiny.yaml").write_text(declared.replace("quantize: awq, ", ""), encoding="utf-8")
    (made,) = build(load_house(small), engine="turbomind", workspaces=tmp_path / "ws")
    left = [path.name for path in made.folder.parent.iterdir() if path.is_dir()]
    assert left == ["turbomind"]


def test_what_an_earlier_hanlin_made_is_made_anew_unasked(small: Path, tmp_path: Path) -> None:
    """It wrote perplexities alone into the manifest; a rule now asks for the divergence."""
    house, workspaces = load_house(small), tmp_path / "ws"

    def convert() -> bool:
        settings = Settings(samples=4, seqlen=64, limit=None)
        (made,) = build(house, engine="turbomind", workspaces=workspaces, quantising=settings)
        assert verify(made.folder, loader=False).ok
        return made.rebuilt

    assert convert()
    path = workspaces / "tiny/turbomind/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["quantization"]["fidelity"]["divergence"]
    path.write_text(json.dumps(manifest))
    (plan,) = plans(house, engine="turbomind", workspaces=workspaces)
    assert [step.verb for step in plan.steps if not step.built] == ["quantize", "assemble"]
    assert "a Hanlin that did not measure divergence" in describe(plan)
    assert [convert(), convert()] == [True, False]
