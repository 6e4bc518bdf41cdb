"""How close a merge is to base and adapter stands in the manifest; too far, and it is not built."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from assistants import load_house
from convert.errors import FidelityError
from convert.plan import Engine
from convert.run import build
from convert.verify import verify
from hanlin.commands import run

DECLARED = """\
name: wishes
title: T
description: T
model: {base: hanlin-mini, adapter: adapter}
turbomind: {session_len: 512}
"""


@pytest.fixture
def folder(tmp_path: Path, root: Path) -> Path:
    """The shipped adapter and its dialogues, declared anew."""
    folder = tmp_path / "assistants"
    (folder / "calibration").mkdir(parents=True)
    shutil.copytree(root / "assistants/adapters/wishes", folder / "adapter")
    shutil.copy(root / "assistants/calibration/wishes.jsonl", folder / "calibration")
    (folder / "wishes.yaml").write_text(DECLARED, encoding="utf-8")
    return folder


def made(folder: Path, engine: Engine = "llamacpp", **options: Any) -> Any:
    """What the manifest says of the merge once it is built."""
    workspaces = folder.parent / "ws"
    (built,) = build(load_house(folder), engine=engine, workspaces=workspaces, **options)
    report = verify(built.folder, loader=False)
    assert report.ok, list(report.findings)
    return json.loads((built.folder / "manifest.json").read_text())["fidelity"]["merge"]


def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that adds every product twice."""
    from convert.merge import merged

    real = merged.add

    def twice(raw: Any, dtype: str, product: Any, scale: Any) -> None:
        real(raw, dtype, product, scale * 2)

    monkeypatch.setattr(merged, "add", twice)


@pytest.mark.parametrize("engine", ["llamacpp", "turbomind"])
def test_both_engines_are_measured(folder: Path, engine: Engine) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
    found = made(folder, engine)
    assert found["text"] == "wishes.jsonl, held back"
    assert 0 < found["logit_difference"]["relative"] < found["limit"] / 5
    assert found["perplexity"]["merged"] == pytest.approx(found["perplexity"]["unmerged"], rel=0.01)
    changed = DECLARED + "llamacpp: {threads: 2}\n"
    (folder / "wishes.yaml").write_text(changed.replace("512", "256"), encoding="utf-8")
    assert made(folder, engine) == found  # new settings, the same weights and figures


def test_too_far_is_not_built_unless_it_is_accepted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
    workspaces = folder.parent / "ws"
    made(folder)
    before = {p.name: p.read_bytes() for p in (workspaces / "wishes/llamacpp").iterdir()}
    doubled(monkeypatch)
    for engine in ("llamacpp", "turbomind"):
        with pytest.raises(FidelityError, match="--accept-fidelity"):
            made(folder, engine, force=True)
    assert not (workspaces / "wishes/turbomind").exists()
    assert {p.name: p.read_bytes() for p in (workspaces / "wishes/llamacpp").iterdir()} == before
    arguments = ["convert", "--engine", "llamacpp", "--assistants", str(folder),
                 "--workspaces", str(workspaces), "--force"]  # fmt: skip
    with pytest.raises(FidelityError):
        run(arguments)
    assert run([*arguments, "--accept-fidelity"]) == 0
    assert "built" in capsys.readouterr().out
    found = made(folder)
    assert found["logit_difference"]["relative"] > found["limit"]


def test_without_torch_it_is_built_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [n for n in sys.modules if n.startswith(("convert.forward", "convert.fidelity."))]:
        monkeypatch.delitem(sys.modules, name)
    assert "PyTorch" in made(folder)["not_measured"]
    assert "PyTorch" in made(folder, "turbomind")["not_measured"]


def test_what_is_not_merged_needs_no_measuring(folder: Path) -> None:
    (folder / "wishes.yaml").write_text(DECLARED.replace(", adapter: adapter", ""))
    assert "there is no adapter" in made(folder)["not_measured"]
