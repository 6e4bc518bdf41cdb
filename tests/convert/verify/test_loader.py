"""How the real loader is asked: in a process of its own, whatever becomes of that process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convert.verify import verify
from convert.verify.loader import LoaderError, dry_run, interpreter
from convert.verify.view import View
from tests.convert.verify import made

GOOD = {
    "lmdeploy": "0.18.0", "modules": 22, "bytes": [10, 10], "left": ["x"], "dtype": "bfloat16",
    "model_format": "hf", "chat_template": "hf",
}  # fmt: skip


def stand_in(folder: Path, script: str) -> Path:
    """A program in the place of the interpreter: $1 script, $2 folder, $3 settings, $4 report."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_what_it_says_is_in_the_report(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    python = stand_in(tmp_path, f"echo noise; echo '{json.dumps(GOOD)}' > $4")
    report = verify(folder, python=python)
    assert report.ok
    assert report.loader is not None
    assert report.loader.bytes_per_rank == (10, 10)
    assert report.loader.left == ("x",)
    assert report.as_json()["loader"]["ok"] is True


def test_it_is_told_the_settings_and_the_ranks(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    python = stand_in(tmp_path, f"cp $3 {tmp_path}/told; echo $2 > {tmp_path}/where; exit 3")
    dry_run(View(folder, 2), python)
    told = json.loads((tmp_path / "told").read_text(encoding="utf-8"))
    assert told["tp"] == 2
    assert told["session_len"] == made.ENGINE["session_len"]
    assert Path((tmp_path / "where").read_text(encoding="utf-8").strip()) == folder.resolve()


def test_its_error_fails_the_workspace(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    python = stand_in(tmp_path, """echo '{"error": "ValueError: no format"}' > $4; exit 1""")
    report = verify(folder, python=python)
    assert not report.ok
    assert report.failed == ()
    assert report.loader is not None
    assert report.loader.error == "ValueError: no format"


def test_a_process_that_is_ended_is_an_answer(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    python = stand_in(tmp_path, "echo 'Check failed: x' >&2; kill -ABRT $$")
    found = dry_run(View(folder), python)
    assert not found.ok
    assert found.error is not None
    assert "signal 6" in found.error
    assert "Check failed: x" in found.error


def test_a_base_template_is_no_template(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    bad = json.dumps(GOOD | {"chat_template": "base"})
    assert not verify(folder, python=stand_in(tmp_path, f"echo '{bad}' > $4")).ok


def test_one_that_never_ends_is_ended(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    found = dry_run(View(folder), stand_in(tmp_path, "exec sleep 60"), timeout=0.2)
    assert found.error == "TurboMind's loader did not end within 0 seconds"


def test_no_such_interpreter_is_one_sentence(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    with pytest.raises(LoaderError, match=r"HANLIN_LMDEPLOY_PYTHON names .*cannot be run"):
        verify(folder, python=tmp_path / "no-python")


def test_without_engine_json_nobody_is_asked(tmp_path: Path) -> None:
    folder = made.plain(tmp_path / "it")
    (folder / "engine.json").unlink()
    report = verify(folder, python=stand_in(tmp_path, f"touch {tmp_path}/asked"))
    assert report.loader is None
    assert not (tmp_path / "asked").exists()


def test_the_interpreter_is_the_one_named(tmp_path: Path) -> None:
    assert interpreter({"HANLIN_LMDEPLOY_PYTHON": "/x/python"}) == Path("/x/python")
