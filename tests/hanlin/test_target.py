"""Where gateway and engine host are found, and what a running `hanlin up` leaves of itself."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assistants.errors import HanlinError
from hanlin import places
from hanlin.client.running import FILE, Running, found, left
from hanlin.client.target import target

UP = Running(pid=os.getpid(), gateway="http://a:1", engines="http://a:2", engines_key="k")


@pytest.mark.parametrize(
    ("gateway", "engines", "running", "asked"),
    [
        (None, None, None, (places.GATEWAY, places.ENGINES, None)),
        (None, None, UP, ("http://a:1", "http://a:2", "k")),
        ("http://a:1/", None, UP, ("http://a:1", "http://a:2", "k")),
        ("http://b:1", None, UP, ("http://b:1", None, None)),
        ("http://b:1", None, None, ("http://b:1", None, None)),
        (None, "http://b:2/", UP, ("http://a:1", "http://b:2", None)),
        ("http://b:1", "http://b:2", None, ("http://b:1", "http://b:2", None)),
    ],
)
def test_whom_to_ask(gateway: Any, engines: Any, running: Any, asked: tuple[Any, ...]) -> None:
    known = target(gateway, engines, running, {})
    assert (known.gateway, known.engines, known.engines_key) == asked
    assert target(None, None, running, {"HANLIN_ENGINES_KEY": "e"}).engines_key == "e"


def test_the_later_of_two_houses_is_found(tmp_path: Path) -> None:
    assert found(tmp_path) is None
    later = Running(pid=1, gateway="http://c:1", engines="http://c:2")
    with contextlib.ExitStack() as latter:
        with left(UP, tmp_path / "logs"):
            assert found(tmp_path / "logs") == UP
            latter.enter_context(left(later, tmp_path / "logs"))
            assert found(tmp_path / "logs") == later
        assert found(tmp_path / "logs") == later
    assert found(tmp_path / "logs") is None
    (tmp_path / FILE).write_text("{}")
    assert found(tmp_path) is None


KILLED = f"""
import os, signal, sys
from pathlib import Path
from hanlin.client.running import Running, left
house = Running(pid={os.getpid()}, gateway="http://a:1", engines="http://a:2")
with left(house, Path(sys.argv[1])):
    sys.stdout.write("up\\n")
    sys.stdout.flush()
    signal.pause()
"""
"""Its process id is one that still runs, as one is that was given to somebody else."""


def test_what_a_killed_house_left_is_not_believed_though_its_process_id_runs(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", KILLED, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as house:
        assert house.stdout
        assert house.stdout.readline() == b"up\n"
        known = found(tmp_path)
        house.kill()
    assert known is not None
    assert known.pid == os.getpid()
    assert (tmp_path / FILE).exists()
    assert found(tmp_path) is None
    with left(UP, tmp_path):
        assert found(tmp_path) == UP


def test_of_word_that_cannot_be_left_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not half a file with half a key in it."""

    def full(_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hanlin.client.running.msgspec.json.encode", full)
    with pytest.raises(OSError, match="No space left"), left(UP, tmp_path / "logs"):
        pass
    assert list((tmp_path / "logs").iterdir()) == []


def test_a_key_file_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(HanlinError, match="HANLIN_ENGINES_KEY_FILE"):
        target(None, None, None, {"HANLIN_ENGINES_KEY_FILE": "/no/such"})
