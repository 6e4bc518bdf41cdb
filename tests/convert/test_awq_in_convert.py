"""`turbomind.quantize: awq` becomes a 4-bit workspace that says how close it is to the original."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assistants import load_house
from convert.errors import BuildError
from convert.run import build, plans
from convert.verify import verify

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
    (made,) = build(house, engine="turbomind", workspaces=workspaces)
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

    (again,) = build(house, engine="turbomind", workspaces=workspaces)
    assert not again.rebuilt
    changed = DECLARED.replace("session_len: 512", "session_len: 256")
    (folder / "tiny.yaml").write_text(changed, encoding="utf-8")
    weights = (made.folder / "model-00002-of-00009.safetensors").stat().st_ino
    (resettled,) = build(load_house(folder), engine="turbomind", workspaces=workspaces)
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
