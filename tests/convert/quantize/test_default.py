"""`hanlin quantize` without --calibration takes the dialogues of the model's own assistant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from assistants.errors import HanlinError, UnknownAssistantError
from convert.errors import ConvertError, FidelityError
from hanlin.commands import run
from tests.convert.quantize.conftest import Make


@pytest.fixture(autouse=True)
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights are far from themselves in 4 bits; which dialogues are read is asked here."""
    monkeypatch.setattr("convert.fidelity.divergence.Divergence.sum", 0.0)


@pytest.fixture
def house(tmp_path: Path, dialogues: Path) -> Path:
    """Two assistants, one of them with dialogues."""
    folder = tmp_path / "assistants"
    (folder / "calibration").mkdir(parents=True)
    shutil.copy(dialogues, folder / "calibration" / "poet.jsonl")
    for name in ("poet", "tutor"):
        declared = {"name": name, "title": "T", "description": "T", "model": {"base": "b"}}
        aliases = {"aliases": ["libai"]} if name == "poet" else {}
        (folder / f"{name}.yaml").write_text(json.dumps(declared | aliases))
    return folder


def quantize(model: Path, house: Path, *options: str) -> int:
    out = model.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    return run(["quantize", str(model), str(out), "--assistants", str(house), "--samples", "4",
                "--seqlen", "32", "--threads", "1", *options])  # fmt: skip


def test_a_workspace_names_its_assistant(
    make_model: Make, house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model()
    (model / "manifest.json").write_text(json.dumps({"name": "poet"}))
    assert quantize(model, house) == 0
    assert "calibration/poet.jsonl" in capsys.readouterr().out
    assert (model.parent / "out" / "config.json").exists()
    assert not (model.parent / "out" / "manifest.json").exists()


def test_a_merged_folder_is_told_whose_it_is(
    make_model: Make, house: Path, dialogues: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model()
    with pytest.raises(ConvertError, match=r"whose model it is.*--calibration.*--assistant NAME"):
        quantize(model, house)
    with pytest.raises(UnknownAssistantError, match="poet"):
        quantize(model, house, "--assistant", "poets")
    with pytest.raises(ConvertError, match=r"'tutor' .* has no dialogues .*--calibration"):
        quantize(model, house, "--assistant", "tutor")
    (model / "manifest.json").write_text("[]")
    with pytest.raises(ConvertError, match="whose model it is"):
        quantize(model, house)
    assert quantize(model, house, "--assistant", "libai") == 0
    assert "calibration/poet.jsonl" in capsys.readouterr().out


def test_a_named_file_needs_no_house(make_model: Make, tmp_path: Path, dialogues: Path) -> None:
    model, nowhere = make_model(), tmp_path / "nowhere"
    with pytest.raises(HanlinError, match="no folder"):
        quantize(model, nowhere, "--assistant", "poet")
    assert quantize(model, nowhere, "--calibration", str(dialogues)) == 0


def test_too_far_is_taken_when_it_is_accepted(
    make_model: Make, house: Path, dialogues: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    monkeypatch.setattr("convert.fidelity.divergence.Divergence.sum", 1e9)
    arguments = (model, house, "--calibration", str(dialogues))
    with pytest.raises(FidelityError, match=r"where 0\.15 is allowed.*--accept-fidelity"):
        quantize(*arguments)
    assert quantize(*arguments, "--accept-fidelity") == 0
