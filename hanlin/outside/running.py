"""What a running `hanlin up` leaves beside its logs, for other commands to find the house by."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

FILE = "up.json"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts of a house are reached that `hanlin up` keeps up."""

    pid: int
    gateway: str
    engines: str
    page: str | None = None
    engines_key: str | None = None


@contextlib.contextmanager
def left(running: Running, logs: Path) -> Iterator[None]:
    """Leave word of it while this lasts; of two houses in one folder, the later is found."""
    file = logs / FILE
    logs.mkdir(parents=True, exist_ok=True)
    _write(running, file)
    try:
        yield
    finally:
        if _read(file) == running:
            file.unlink(missing_ok=True)


def _write(running: Running, file: Path) -> None:
    """Whole or not at all, and for its owner alone: it has a key in it."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(msgspec.json.encode(running))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def found(logs: Path) -> Running | None:
    """The house that is up now and keeps its logs there; what a killed one left says nothing."""
    running = _read(logs / FILE)
    return running if running is not None and _runs(running.pid) else None


def _read(file: Path) -> Running | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True
