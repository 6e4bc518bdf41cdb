"""The key that the page and the command bring: from the environment, or from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistants.errors import HanlinError
from hanlin.client_key import client_key


def test_it_is_in_the_environment_or_in_the_file_named_there(tmp_path: Path) -> None:
    file = tmp_path / "page.key"
    file.write_text("hl-of-the-file\n")
    assert client_key({}) is None
    assert client_key({"HANLIN_KEY": "hl-a"}) == "hl-a"
    assert client_key({"HANLIN_KEY_FILE": str(file)}) == "hl-of-the-file"
    file.write_text("\n")
    assert client_key({"HANLIN_KEY": "", "HANLIN_KEY_FILE": str(file)}) is None


def test_both_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HanlinError, match="HANLIN_KEY and HANLIN_KEY_FILE are both set"):
        client_key({"HANLIN_KEY": "hl-a", "HANLIN_KEY_FILE": str(tmp_path / "none")})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with pytest.raises(HanlinError, match=f"HANLIN_KEY_FILE names {missing}: No such file"):
        client_key({"HANLIN_KEY_FILE": str(missing)})


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "page.key"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(HanlinError, match=f"HANLIN_KEY_FILE names {file}: it is not text"):
        client_key({"HANLIN_KEY_FILE": str(file)})
