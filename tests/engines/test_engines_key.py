"""The one key of host and engines, from the environment or a file that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistants.errors import HanlinError
from serve.engines_key import FILE_VARIABLE, VARIABLE, bearer, engines_key


def test_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    assert engines_key({}) is None
    assert engines_key({VARIABLE: "", FILE_VARIABLE: ""}) is None
    assert engines_key({VARIABLE: "k"}) == "k"
    assert engines_key({FILE_VARIABLE: str(tmp_path / "key")}) == "from-a-file"


def test_both_at_once_are_refused() -> None:
    with pytest.raises(HanlinError, match="are both set"):
        engines_key({VARIABLE: "k", FILE_VARIABLE: "/k"})


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HanlinError, match="none: No such file"):
        engines_key({FILE_VARIABLE: str(tmp_path / "none")})


@pytest.mark.parametrize("text", ["", "\n", "zwei\nZeilen", "schlüssel"])
def test_a_file_without_a_key_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(HanlinError, match="holds no key"):
        engines_key({FILE_VARIABLE: str(tmp_path / "key")})


def test_how_it_is_brought() -> None:
    assert bearer("k") == {"Authorization": "Bearer k"}
    assert bearer(None) == {}
