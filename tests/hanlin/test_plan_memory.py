"""`hanlin plan --memory`: the plan of a machine without a GPU, as the engine host makes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assistants.errors import HanlinError
from convert.run import build
from hanlin.reports import plan
from tests.convert.making import house


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A house of one, built for llama.cpp."""
    made = house(tmp_path / "assistants", base="hanlin-mini")
    build(made, engine="llamacpp", workspaces=tmp_path / "ws")
    return tmp_path / "assistants", tmp_path / "ws"


def test_who_runs_together_and_who_does_not(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plan([], "1GiB", folders, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [one["assistant"] for one in found["start"]] == ["one"]
    assert found["start"][0]["tokens"] == 4 * 1024
    assert (
        sum(v for k, v in found["start"][0].items() if k not in ("assistant", "tokens"))
        == (found["taken"])
    )
    plan([], "64MiB", folders, as_json=False)
    assert "one is not placed: it needs 0.18 GiB even alone" in capsys.readouterr().out


def test_a_gpu_and_a_memory_are_two_plans(folders: tuple[Path, Path]) -> None:
    with pytest.raises(HanlinError, match="name one of them"):
        plan(["24GiB"], "8GiB", folders, as_json=True)
    with pytest.raises(HanlinError, match="--memory much is not a size"):
        plan([], "much", folders, as_json=True)
