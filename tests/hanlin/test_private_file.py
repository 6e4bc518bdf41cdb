"""Files of keys and users: written whole, or left as they are, with whoever may read them."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assistants import HanlinError
from hanlin.private_file import rewrite


def accept(part: Path) -> None:
    assert part.is_file()


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    rewrite(tmp_path / "new", lambda before: f"{before}one", accept)
    assert (tmp_path / "new").read_text() == "one"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_who_could_read_it_still_can(tmp_path: Path) -> None:
    """Through a link, too, as secrets are often mounted."""
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("one")
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 12345, 12345)
    before = file.stat()
    link.symlink_to(file)
    rewrite(link, lambda text: f"{text} two", accept)
    after = file.stat()
    assert link.is_symlink()
    assert file.read_text() == "one two"
    for field in ("st_mode", "st_uid", "st_gid"):
        assert getattr(after, field) == getattr(before, field)


def test_what_does_not_pass_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")

    def refuse(part: Path) -> None:
        raise HanlinError("no")

    with pytest.raises(HanlinError, match="no"):
        rewrite(file, lambda _: "two", refuse)
    assert file.read_text() == "one"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (".", "cannot be written: Is a directory"),
        ("no/file", "cannot be written: No such file or directory"),
        ("bytes", "is not UTF-8 text"),
    ],
)
def test_what_cannot_be_rewritten(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(HanlinError, match=said):
        rewrite(tmp_path / name, lambda _: "", accept)


def test_of_many_at_once_none_is_lost(tmp_path: Path) -> None:
    file, letters = tmp_path / "file", "abcdefghijklmnopqrst"
    with ThreadPoolExecutor(len(letters)) as pool:
        list(pool.map(lambda letter: rewrite(file, lambda old: old + letter, accept), letters))
    assert sorted(file.read_text()) == sorted(letters)
    assert os.listdir(tmp_path) == ["file"]
