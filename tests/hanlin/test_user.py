"""`hanlin user`: whoever is made may sign in, whatever they are called."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from assistants import HanlinError
from hanlin.user import make
from serve.ui.login.users import UserSources

WORD = "correct horse"


@pytest.fixture(autouse=True)
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{WORD}\n" * 9))


def test_any_name_can_be_read_back(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    names = ["ada", "王", "o'neil", "7", "null", "a@b.c", "*x"]
    for name in names:
        make(name, file)
    users = UserSources(file).read()
    assert list(users) == names
    assert users["*x"].fits(WORD)


@pytest.mark.parametrize("name", ["", "a b", "ada\n", "a:b", "x" * 65])
def test_no_name_no_user(tmp_path: Path, name: str) -> None:
    with pytest.raises(HanlinError, match="is not a name"):
        make(name, tmp_path / "users.yaml")
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_and_a_file_of_something_else(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    make("ada", file)
    before = file.read_text()
    with pytest.raises(HanlinError, match="'ada' already"):
        make("ada", file)
    assert file.read_text() == before
    file.write_text(f"{before}# the end\n...\n")
    with pytest.raises(HanlinError, match="by hand"):
        make("bob", file)
    assert file.read_text() == f"{before}# the end\n...\n"
