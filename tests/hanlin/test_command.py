"""The entrance: help that is quick, exit codes, and errors as sentences."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from assistants.errors import HanlinError
from hanlin import __main__ as entrance
from hanlin import commands, places
from hanlin.__main__ import main
from serve.addresses import reached, url

COMMANDS = [
    "up", "chat", "status", "logs", "key", "user", "convert", "adapter", "merge", "quantize",
    "verify", "plan", "gateway", "engines", "ui",
]  # fmt: skip


def test_help_names_every_command_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    at = [shown.index(f"│ {name}") for name in COMMANDS]
    assert at == sorted(at)
    groups = [shown.index(f"─ {group}") for group in (commands.RUN, commands.BUILD, "One part")]
    assert groups == sorted(groups)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage:" in capsys.readouterr().out


def test_which_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hanlin {version('hanlin')}\n"


def test_help_imports_nothing_heavy() -> None:
    probe = (
        "import sys; from hanlin.__main__ import main; main(['--help']); "
        "heavy = {'gradio', 'numpy', 'xllamacpp', 'openai', 'fastapi', 'pydantic', 'httpx'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such"], ["up", "--port", "x"], ["up", "--port=0"], ["chat"], ["merge", "a"],
        ["gateway", "--drain=inf"], ["engines", "--minimum-stay=nan"],
    ],
)  # fmt: skip
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_mistake_in_a_declaration_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text(
        "name: x\ntitle: X\ndescription: d\nmodel: {base: hanlin-mini}\naliasses: [y]\n"
    )
    assert main(["convert", f"--assistants={tmp_path}"]) == 1
    told = capsys.readouterr().err
    assert told == f"{tmp_path / 'x.yaml'}:5: unknown key 'aliasses'; did you mean 'aliases'?\n"


def test_a_missing_folder_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "--assistants=/no/such"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("There is no folder /no/such; name the assistants' folder")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["gateway", "--engines=engines:8001"], "'engines:8001' is no URL; one is like http://"),
        (["ui", "--gateway=http://[::1"], "'http://[::1' is no URL; one is like http://"),
        (["up", "--no-ui", "--memory=0"], "--memory 0 is not a size of memory; write it as"),
        (["convert", "--workspaces=x/x.yaml"], "x.yaml is a file; name a folder with --workspaces"),
        (["convert", "--assistants=x/x.yaml"], "x.yaml is a file; name the folder it is in with"),
        (["quantize", "nowhere", "out"], "There is no folder nowhere."),
        (["quantize", "x", "out", "--assistant=x", "--device=tpu"], "There is no device 'tpu'"),
        (["adapter", "x", "out"], "x is not a checkpoint: it holds no iter_N.pth"),
        (["plan", "--gpu=9999x24GiB"], "--gpu 9999x24GiB is not a size of memory"),
        (["plan", f"--memory={'9' * 400}GiB"], "GiB is not a size of memory; write it as 24GiB."),
        (["logs", "../../etc/passwd"], "Nor has an engine left a log in workspaces/.logs."),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    (tmp_path / "x" / "calibration").mkdir(parents=True)
    (tmp_path / "x" / "calibration" / "x.jsonl").touch()
    (tmp_path / "x" / "x.yaml").write_text(
        "name: x\ntitle: X\ndescription: d\nmodel: {base: hanlin-mini}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HANLIN_ASSISTANTS", "x")
    monkeypatch.setenv("HANLIN_ENGINE", "llamacpp")
    assert main(arguments) == 1
    shown = capfd.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_terminal_without_the_letters_is_no_failure() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hanlin", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?? Hanlin" in done.stdout


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(commands, "run", run)
    return main([])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (HanlinError("This, there, that."), "This, there, that."),
        (ExceptionGroup("g", [HanlinError("Within.")]), "Within."),
        (KeyboardInterrupt(), "\nInterrupted."),
        (MemoryError(), "Memory ran out; close other programs, or use a smaller model."),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            "The disk is full (/x/y); free some space and run the command again.",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "Permission denied (/x)."),
    ],
)
def test_errors_as_sentences(
    error: BaseException,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert raising(error, monkeypatch) == 1
    assert capsys.readouterr().err == f"{told}\n"


def test_a_mistake_of_our_own_is_a_sentence_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entrance.tempfile, "tempdir", str(tmp_path))
    assert raising(KeyError("lost"), monkeypatch) == 1
    told = capsys.readouterr().err
    (written,) = tmp_path.iterdir()
    assert str(written) in told
    assert told.count("\n") == 1
    assert "Traceback" not in told
    assert "KeyError: 'lost'" in written.read_text()


def test_the_traceback_is_shown_to_whoever_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HANLIN_DEBUG", "1")
    assert raising(KeyError("lost"), monkeypatch) == 1
    assert "Traceback" in capsys.readouterr().err


def test_where_parts_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert url(reached("0.0.0.0"), 8000) == "http://127.0.0.1:8000"
    assert url(reached("::"), 8000) == "http://[::1]:8000"
    assert url(reached("10.0.0.5"), 1) == "http://10.0.0.5:1"
    assert places.logs(Path("w")) == Path("w/.logs")
    monkeypatch.setenv("HANLIN_LOGS", "/var/log/hanlin")
    assert places.logs(Path("w")) == Path("/var/log/hanlin")


@pytest.mark.parametrize(
    ("assistants", "workspaces", "environ", "options"),
    [
        ("assistants", "./workspaces", {}, ""),
        ("house", "workspaces", {}, " --assistants house"),
        ("my house", "/w", {}, " --assistants 'my house' --workspaces /w"),
        ("house", "/w", {"HANLIN_ASSISTANTS": "house", "HANLIN_WORKSPACES": "/w"}, ""),
        ("assistants", "workspaces", {"HANLIN_ASSISTANTS": "house"}, " --assistants assistants"),
    ],
)
def test_what_another_command_is_told_to_mean_the_same_folders(
    assistants: str, workspaces: str, environ: dict[str, str], options: str
) -> None:
    assert places.options_for(Path(assistants), Path(workspaces), environ) == options
