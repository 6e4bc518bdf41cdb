"""Two houses that share a folder of workspaces do not build over each other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assistants import House, load_house
from convert.errors import BuildError
from convert.run import build, plans
from tests.convert.making import house


def built(made: House, workspaces: Path) -> bool:
    (workspace,) = build(made, engine="llamacpp", workspaces=workspaces)
    return workspace.rebuilt


@pytest.fixture
def first(tmp_path: Path) -> House:
    """A house whose one workspace is built in `w`."""
    made = house(tmp_path / "first", base="hanlin-mini")
    assert built(made, tmp_path / "w")
    return made


def test_the_name_of_another_house_is_not_built_over(first: House, tmp_path: Path) -> None:
    model = tmp_path / "w" / "one" / "llamacpp" / "model.gguf"
    before = model.stat().st_ino
    second = house(tmp_path / "second", base="hanlin-mini", llamacpp={"type": "f16"})
    with pytest.raises(BuildError, match="--workspaces") as caught:
        build(second, engine="llamacpp", workspaces=tmp_path / "w")
    assert str(tmp_path / "first" / "one.yaml") in str(caught.value)
    assert str(tmp_path / "second" / "one.yaml") in str(caught.value)
    with pytest.raises(BuildError, match="--workspaces"):  # said before anything is done
        plans(second, engine="llamacpp", workspaces=tmp_path / "w")
    assert model.stat().st_ino == before
    assert built(second, tmp_path / "another")
    assert not built(first, tmp_path / "w")


def test_one_that_says_the_same_has_nothing_to_build(first: House, tmp_path: Path) -> None:
    same = house(tmp_path / "second", base="hanlin-mini")
    assert not built(same, tmp_path / "w")
    changed = house(tmp_path / "first", base="hanlin-mini", llamacpp={"threads": 2})
    assert built(changed, tmp_path / "w")  # whose it was, it stays


def test_who_is_gone_owns_nothing(first: House, tmp_path: Path) -> None:
    os.rename(tmp_path / "first", tmp_path / "moved")
    house(tmp_path / "moved", base="hanlin-mini", llamacpp={"threads": 2})
    assert built(load_house(tmp_path / "moved"), tmp_path / "w")
    again = house(tmp_path / "first", base="hanlin-mini")
    with pytest.raises(BuildError, match="moved"):
        build(again, engine="llamacpp", workspaces=tmp_path / "w")


def test_another_way_to_the_same_file_is_no_other_house(first: House, tmp_path: Path) -> None:
    house(tmp_path / "first", base="hanlin-mini", llamacpp={"threads": 2})
    (tmp_path / "linked").mkdir()
    os.link(tmp_path / "first" / "one.yaml", tmp_path / "linked" / "one.yaml")
    assert built(load_house(tmp_path / "linked"), tmp_path / "w")
