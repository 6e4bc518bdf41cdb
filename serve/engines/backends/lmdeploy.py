"""Where this machine has LMDeploy, and which; it is run, never imported.

It may live in an environment of its own: in the Python named by HANLIN_LMDEPLOY_PYTHON, in the one
that runs this, or in the one behind the `lmdeploy` command on the path, in this order.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve.engines.errors import EngineError, NoLmdeployError

PYTHON = "HANLIN_LMDEPLOY_PYTHON"
ASK = "from importlib.metadata import version; print(version('lmdeploy'))"
"""Reads the package's own record: importing it takes seconds."""
SECONDS = 60.0

_INTERPRETER = re.compile(rb"#!\s*(?:\S*/env\s+)?(\S*python[\d.]*)\s*$")


@dataclass(frozen=True, slots=True)
class Lmdeploy:
    """One installation."""

    python: Path
    """The interpreter that can import it."""
    version: str

    def satisfies(self, range_: str) -> bool:
        """Whether it is what an engine.json asks for, such as `>=0.14`."""
        return _release(self.version) >= _release(range_.removeprefix(">="))


def find(environ: Mapping[str, str]) -> Lmdeploy:
    """The LMDeploy of this machine.

    Raises:
        NoLmdeployError: there is none.
        EngineError: the environment names a Python that has none.
    """
    if named := environ.get(PYTHON):
        python = Path(named).absolute() if "/" in named else Path(named)
        if version := _version(python):
            return Lmdeploy(python, version)
        raise EngineError(f"{PYTHON} names {named}, which has no lmdeploy or cannot be run.")
    for python in _places(environ):
        if version := _version(python):
            return Lmdeploy(python, version)
    raise NoLmdeployError(
        "TurboMind needs LMDeploy, and there is no lmdeploy on the path nor in this Python; "
        f"pip install lmdeploy, or name the Python that has it in {PYTHON}."
    )


def _places(environ: Mapping[str, str]) -> list[Path]:
    places = [Path(sys.executable)] if importlib.util.find_spec("lmdeploy") else []
    if script := shutil.which("lmdeploy", path=environ.get("PATH")):
        places += filter(None, [_interpreter(Path(script), environ)])
    return places


def _interpreter(script: Path, environ: Mapping[str, str]) -> Path | None:
    """The Python that a command runs in: its first line names it, or it lies beside it."""
    with script.open("rb") as file:
        told = _INTERPRETER.match(file.readline(4096))
    if told:
        found = shutil.which(told[1].decode(errors="replace"), path=environ.get("PATH"))
        return Path(found) if found else None
    beside = script.resolve().with_name("python")  # where the line would be too long, pip writes sh
    return beside if beside.exists() else None


def _version(python: Path) -> str | None:
    """What it has; None where it has none, or cannot be run."""
    try:
        # Not from the current folder, which comes first in its search.
        ran = subprocess.run(
            [python, "-c", ASK], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip() or None


def _release(version: str) -> tuple[int, ...]:
    """Its numbers up to the first thing that is none: those of 0.18.0.post1 are those of 0.18."""
    found = re.match(r"\d+(?:\.[1-9]\d*|\.0+(?=\.[1-9]))*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
