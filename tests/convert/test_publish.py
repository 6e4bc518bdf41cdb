"""A folder appears complete or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from convert.errors import BuildError
from convert.publish import locked, staged


def test_killed_between_two_renames(tmp_path: Path) -> None:
    for name, text in ((".x.old", "old"), (".x.building", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
    with locked(tmp_path / "x"):
        assert (tmp_path / "x" / "file").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == [".x.lock", "x"]


@pytest.mark.parametrize("exchange", [True, False])
def test_the_old_is_replaced(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr("convert.publish._exchanged", lambda *_: False)
    target = tmp_path / "x"
    for text in ("old", "new"):
        with locked(target), staged(target) as folder:
            (folder / "file").write_text(text)
    assert (target / "file").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == [".x.lock", "x"]


def test_a_disk_that_fails_when_all_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may find out that it is full only when it has to keep what it took."""

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("convert.publish._sync", full)
    target = tmp_path / "x"
    target.mkdir()
    (target / "file").write_text("old")
    with pytest.raises(BuildError, match="No room left"), locked(target), staged(target) as folder:
        (folder / "file").write_text("new")
    assert (target / "file").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == [".x.lock", "x"]
