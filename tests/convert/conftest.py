"""Where the tiny models lie, and a house that a test may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from assistants import House
from tests.convert.making import MINI, house


@pytest.fixture
def models(shared: Path) -> Path:
    """The folder of tiny models (two layers) that real libraries have written."""
    return shared / "data" / "models"


@pytest.fixture
def any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are made here that no engine would load, for their names and numbers: the rules that a
    build ends with are not asked."""
    monkeypatch.setattr("convert.verify.staged.RULES", ())


@pytest.fixture
def mini(tmp_path: Path) -> House:
    """One assistant on a copy of the embedded base, which a test may damage."""
    shutil.copytree(MINI, tmp_path / "mini")
    return house(tmp_path / "assistants", base=str(tmp_path / "mini"))
