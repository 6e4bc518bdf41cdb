"""A folder appears complete or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from convert.errors import BuildError
from convert.publish import locked, replaced, require_new, staged


def test_killed_between_two_renames(tmp_path: Path) -> None:
    for name, text in ((".x.old", "old"), (".x.building", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
    with locked(tmp_path / "x"):
        assert (tmp_path / "x" / "file").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["x"]


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
    assert sorted(os.listdir(tmp_path)) == ["x"]


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
    assert sorted(os.listdir(tmp_path)) == ["x"]


def test_of_all_who_wait_only_one_builds(tmp_path: Path) -> None:
    """The lock goes with whoever held it; one who waited for it does not build under a lock that
    the next no longer sees."""
    target = tmp_path / "x"
    building: list[str] = []
    seen: list[list[str]] = []
    waited = {name: threading.Event() for name in ("second", "third")}
    inside = {name: threading.Event() for name in ("first", "second", "third")}

    def build(name: str, until: threading.Event | None) -> None:
        with locked(target, lambda: waited[name].set()):
            building.append(name)
            seen.append(list(building))
            inside[name].set()
            if until is not None:
                until.wait(30)
            building.remove(name)

    third_came = threading.Event()
    waits = {"first": waited["second"], "second": third_came, "third": None}
    threads = {n: threading.Thread(target=build, args=(n, waits[n])) for n in waits}
    for name, before in (("first", None), ("second", "first"), ("third", "second")):
        assert before is None or inside[before].wait(30)
        threads[name].start()
    waited["third"].wait(5)
    third_came.set()
    for thread in threads.values():
        thread.join(30)
    assert seen == [["first"], ["second"], ["third"]]
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_read_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    missing = tmp_path / "base" / "weights"
    target = tmp_path / "out" / "x"
    with pytest.raises(FileNotFoundError, match="weights"), locked(target), staged(target):
        missing.open()
    assert os.listdir(target.parent) == []


def test_a_small_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state"
    replaced(file, "old")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("convert.publish._sync", full)
    with pytest.raises(OSError, match="No space left"):
        replaced(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["state"]


def test_a_folder_is_new_where_nothing_is_in_it(tmp_path: Path) -> None:
    require_new(tmp_path / "x")
    (tmp_path / "x").mkdir()
    require_new(tmp_path / "x")
    (tmp_path / "x" / "file").touch()
    for there in (tmp_path / "x", tmp_path / "x" / "file"):
        with pytest.raises(BuildError, match="already exists"):
            require_new(there)
