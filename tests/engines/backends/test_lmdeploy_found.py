"""Which LMDeploy is run, and when TurboMind is taken at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serve.engines.backends.lmdeploy import Lmdeploy, find
from serve.engines.backends.registry import choose
from serve.engines.errors import EngineError, EngineUnavailableError

NO_LMDEPLOY = r"no lmdeploy on the path nor in this Python; pip install lmdeploy, or name"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def python_with(folder: Path, version: str) -> Path:
    """What answers the question for the version as a Python with that LMDeploy would."""
    return program(folder / "python", f"#!/bin/sh\necho {version}\n")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the only one on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def gpus(folder: Path, *rows: str) -> None:
    program(folder / "nvidia-smi", "#!/bin/sh\n" + "".join(f"echo '{row}'\n" for row in rows))


def test_the_python_that_is_named(tmp_path: Path) -> None:
    python = python_with(tmp_path, "0.18.0")
    assert find({"HANLIN_LMDEPLOY_PYTHON": str(python)}) == Lmdeploy(python, "0.18.0")


@pytest.mark.parametrize("named", [sys.executable, "/nowhere/python", "nothing-of-this-name"])
def test_a_python_that_is_named_and_has_none(named: str) -> None:
    told = f"HANLIN_LMDEPLOY_PYTHON names {named}, which has no lmdeploy or cannot be run."
    with pytest.raises(EngineError) as refused:
        find({"HANLIN_LMDEPLOY_PYTHON": named})
    assert str(refused.value) == told
    assert not isinstance(refused.value, EngineUnavailableError)  # auto must not go on without it


@pytest.mark.parametrize("first", ["#!{python}", "#! {python} ", "#!/bin/sh\n'''exec' {python}"])
def test_the_python_behind_the_command(first: str, path: Path, tmp_path: Path) -> None:
    python = python_with(tmp_path / "venv" / "bin", "0.17.0.post1")
    command = program(tmp_path / "venv" / "bin" / "lmdeploy", first.format(python=python) + "\n")
    (path / "lmdeploy").symlink_to(command)
    found = find({"PATH": str(path)})
    assert found == Lmdeploy(python, "0.17.0.post1")


def test_the_python_that_env_finds(path: Path) -> None:
    program(path / "python3", "#!/bin/sh\necho 0.16.0\n")
    program(path / "lmdeploy", "#!/usr/bin/env python3\n")
    assert find({"PATH": str(path)}) == Lmdeploy(path / "python3", "0.16.0")


def test_none(path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=NO_LMDEPLOY):
        find({"PATH": str(path)})


@pytest.mark.parametrize(
    ("version", "range_", "enough"),
    [
        ("0.14.0", ">=0.14", True),
        ("0.14", ">=0.14.0", True),
        ("0.18.0.post1", ">=0.14", True),
        ("0.13.9", ">=0.14", False),
        ("0.9.2", ">=0.14", False),
        ("0.10.0", ">=0.9", True),
        ("0.14.0rc1", ">=0.14", True),
        ("1.0", ">=0.14", True),
        ("1.0.1", ">=1.0.2", False),
        ("nonsense", ">=0.14", False),
    ],
)
def test_versions(version: str, range_: str, enough: bool) -> None:
    assert Lmdeploy(Path("python"), version).satisfies(range_) is enough


def test_turbomind_needs_a_gpu(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(EngineUnavailableError) as refused:
        choose("turbomind")
    told = str(refused.value)
    assert told.startswith("TurboMind needs an NVIDIA GPU, and there is none here: nvidia-smi ")
    assert told.endswith("use --engine llamacpp.")
    assert choose("auto").name == "llamacpp"
    assert not caplog.messages


def test_turbomind_needs_lmdeploy(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gpus(path, "0, GPU-1, 24576, 24000")
    with pytest.raises(EngineUnavailableError, match=NO_LMDEPLOY):
        choose("turbomind")
    assert not caplog.messages
    assert choose("auto").name == "llamacpp"
    (told,) = caplog.messages
    assert told.startswith("The GPUs of this machine are not used: TurboMind needs LMDeploy, and ")


def test_turbomind_needs_a_new_lmdeploy(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpus(path, "0, GPU-1, 24576, 24000")
    python = python_with(tmp_path, "0.14.0")
    monkeypatch.setenv("HANLIN_LMDEPLOY_PYTHON", str(python))
    told = f"TurboMind needs lmdeploy >=0.15, and {python} has 0.14.0; update it there."
    with pytest.raises(EngineUnavailableError) as refused:
        choose("turbomind")
    assert str(refused.value) == told
    assert choose("auto").name == "llamacpp"
    assert caplog.messages == [f"The GPUs of this machine are not used: {told}"]


def test_auto_takes_turbomind_where_both_are(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(path, "0, GPU-1, 24576, 24000")
    monkeypatch.setenv("HANLIN_LMDEPLOY_PYTHON", str(python_with(tmp_path, "0.18.0")))
    assert choose("auto").name == choose("turbomind").name == "turbomind"
    monkeypatch.setenv("HANLIN_LMDEPLOY_PYTHON", "/nowhere/python")
    with pytest.raises(EngineError, match="names /nowhere/python"):
        choose("auto")  # what somebody named is not passed over


def test_engines_by_name() -> None:
    assert choose("llamacpp").name == "llamacpp"
    with pytest.raises(EngineError, match="There is no engine 'vllm'; known are auto, llamacpp, t"):
        choose("vllm")
