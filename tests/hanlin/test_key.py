"""Making a key, and what is said of keys before anything starts."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from assistants import HanlinError
from hanlin.access import exposed, key_sources, require_key_of_page, uncounted, unserved
from hanlin.key import HEAD, make
from serve.gateway.admission.keys import Keys, KeySources
from tests.gateway.conftest import declare, house_of
from tests.gateway.test_keys import HOUSE, sha256, written

# --- hanlin key


def test_made_once_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.yaml"
    make("page", file, {"assistants": ["wishes"], "requests_per_minute": 60})
    page = capsys.readouterr().out.strip()
    make("robot", file, {})
    robot = capsys.readouterr().out.strip()
    keys = Keys(KeySources(file=file), HOUSE)
    assert keys.visitor(page.encode()).requests_per_minute == 60
    assert keys.visitor(page.encode()).assistants == {"wishes"}
    assert keys.visitor(robot.encode()).assistants is None
    assert page not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(HanlinError, match="'robot' already"):
        make("robot", file, {})


@pytest.mark.parametrize("name", ["7", "null", "1.5", "a-b.c"])
def test_any_name_can_be_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make(name, tmp_path / "keys.yaml", {})
    keys = Keys(KeySources(file=tmp_path / "keys.yaml"), HOUSE)
    assert keys.visitor(capsys.readouterr().out.strip().encode()).name == name


def test_what_goes_where_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On a terminal both streams are one, and the key stands alone at the end of it."""
    make("page", None, {})
    told = capfd.readouterr().err
    before, after = told.split(f"{HEAD}  page:\n    sha256: ")
    assert "Into the file of keys" in before
    digest, handed_over = after.split("\n", 1)
    assert len(digest) == 64
    assert handed_over == "\nGive this key to its user; it is shown only once:\n\n"
    make("page", tmp_path / "keys.yaml", {})
    told = capfd.readouterr().err
    assert told.startswith(f"What the gateway has to know is in {tmp_path / 'keys.yaml'}.\n\n")
    assert told.endswith(handed_over[1:])


def test_without_a_file_the_entry_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    make("page", None, {"concurrency": 3})
    shown = capsys.readouterr()
    assert (
        f"keys:\n  page:\n    sha256: {sha256(shown.out.strip())}\n    concurrency: 3\n"
        in shown.err
    )


def test_a_file_that_cannot_be_added_to_stays_as_it_is(tmp_path: Path) -> None:
    file = written(tmp_path, "keys: {}\n")
    with pytest.raises(HanlinError, match="by hand"):
        make("page", file, {})
    assert file.read_text() == "keys: {}\n"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["A page", "page\n"])
def test_no_name_no_key(tmp_path: Path, name: str) -> None:
    with pytest.raises(HanlinError, match=re.escape(f"{name!r} is not a name")):
        make(name, tmp_path / "keys.yaml", {})


# --- starting


def test_who_listens_to_all_without_keys_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANLIN_KEYS", raising=False)
    assert exposed("127.0.0.1", key_sources(None)) is None
    assert "Anybody who reaches 0.0.0.0" in (exposed("0.0.0.0", key_sources(None)) or "")
    monkeypatch.setenv("HANLIN_KEYS", "hl-a, hl-b,")
    assert key_sources(None).plain == ("hl-a", "hl-b")
    assert exposed("0.0.0.0", key_sources(None)) is None


def test_processes_that_do_not_count_together_are_told(tmp_path: Path) -> None:
    with_keys = KeySources(file=tmp_path / "keys.yaml")
    assert "Each of the 2 processes" in (uncounted(2, None, with_keys) or "")
    assert uncounted(1, None, with_keys) is None
    assert uncounted(2, "redis://host", with_keys) is None
    assert uncounted(2, None, KeySources()) is None


def test_a_gateway_that_has_nobody_to_ask_is_told() -> None:
    assert "--engines" in (unserved(None, HOUSE) or "")
    assert "`upstreams`" in (unserved(None, HOUSE) or "")
    assert unserved("http://engines:8001", HOUSE) is None
    assert unserved(None, house_of(declare("poetry"), declare(upstreams=["http://gpu"]))) is None


def test_the_page_needs_a_key_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANLIN_KEY", raising=False)
    require_key_of_page(KeySources(), HOUSE)
    known = KeySources(plain=("hl-a",))
    with pytest.raises(HanlinError, match="set HANLIN_KEY"):
        require_key_of_page(known, HOUSE)
    monkeypatch.setenv("HANLIN_KEY", "hl-a")
    require_key_of_page(known, HOUSE)
