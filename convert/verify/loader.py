"""Asks a real LMDeploy what it would make of a workspace, in a process of its own.

Its checks may end the process that runs them, and it may live in another environment: the
interpreter named by HANLIN_LMDEPLOY_PYTHON, or this one where lmdeploy can be imported.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.verify.view import View

SCRIPT = Path(__file__).with_name("dry_run.py")
PYTHON = "HANLIN_LMDEPLOY_PYTHON"
TIMEOUT = 600.0
"""Seconds; the run takes as long as importing LMDeploy, whatever the size of the model."""

_LAST_LINES = 3


class LoaderError(ConvertError):
    """The interpreter that was to run LMDeploy cannot be started."""


@dataclass(frozen=True, slots=True)
class LoaderRun:
    """What TurboMind's loader said."""

    error: str | None
    """What it died of; None: it loaded everything."""
    lmdeploy: str = ""
    modules: int = 0
    bytes_per_rank: tuple[int, ...] = ()
    left: tuple[str, ...] = ()
    """Tensors nobody asked for."""
    dtype: str = ""
    model_format: str = ""
    chat_template: str = ""
    """`hf` is the workspace's own; `base` means there is none, and answers would be garbage."""

    @property
    def ok(self) -> bool:
        return self.error is None and self.chat_template != "base"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def interpreter(environment: Mapping[str, str]) -> Path | None:
    """The Python that has LMDeploy; None: there is none to ask."""
    if named := environment.get(PYTHON):
        return Path(named)
    return Path(sys.executable) if importlib.util.find_spec("lmdeploy") else None


def dry_run(view: View, python: Path, *, timeout: float = TIMEOUT) -> LoaderRun:
    """Load the workspace as TurboMind would, but for the numbers and the GPU.

    Raises:
        LoaderError: `python` cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="hanlin-verify-") as scratch:
        settings, report = Path(scratch, "settings.json"), Path(scratch, "report.json")
        settings.write_text(json.dumps({**view.engine, "tp": view.tp}), encoding="utf-8")
        # By standard input: as a script its folder would come before the standard library.
        command = [python, "-", view.folder.resolve(), settings, report]
        try:
            with SCRIPT.open("rb") as script:
                ran = subprocess.run(
                    [str(part) for part in command],
                    cwd=scratch, capture_output=True, check=False, timeout=timeout,
                    text=True, errors="replace", stdin=script,
                )  # fmt: skip
        except subprocess.TimeoutExpired:
            return LoaderRun(f"TurboMind's loader did not end within {timeout:.0f} seconds")
        except OSError as error:
            raise LoaderError(
                f"{PYTHON} names {python}, which cannot be run: {error.strerror}."
            ) from error
        if not report.exists():
            return LoaderRun(_died(ran))
        return _read(json.loads(report.read_text(encoding="utf-8")))


def _died(ran: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()]
    how = f"was ended by signal {-ran.returncode}" if ran.returncode < 0 else (
        f"ended with code {ran.returncode}"
    )  # fmt: skip
    return f"the loader {how}: {' / '.join(lines[-_LAST_LINES:]) or 'it said nothing'}"


def _read(found: dict[str, Any]) -> LoaderRun:
    if "error" in found:
        return LoaderRun(found["error"])
    return LoaderRun(
        None,
        lmdeploy=found["lmdeploy"],
        modules=found["modules"],
        bytes_per_rank=tuple(found["bytes"]),
        left=tuple(found["left"]),
        dtype=found["dtype"],
        model_format=found["model_format"],
        chat_template=found["chat_template"],
    )
