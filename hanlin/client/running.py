"""What a running `hanlin up` leaves beside its logs, for other commands to find the house by.

The file is locked for as long as its house is up, by a lock that the kernel gives back however that
ends. Of a process id nobody could tell whose it is by now, nor in which container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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
    with _written(running, file):
        try:
            yield
        finally:
            if found(logs) == running:
                file.unlink(missing_ok=True)


@contextlib.contextmanager
def _written(running: Running, file: Path) -> Iterator[None]:
    """Whole or not at all, and for its owner alone: it has a key in it. Locked before it is there,
    so nobody finds it unlocked."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    part = Path(name)
    with os.fdopen(handle, "wb") as out:
        try:
            out.write(msgspec.json.encode(running))
            out.flush()
            fcntl.flock(out, fcntl.LOCK_EX)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        yield


def found(logs: Path) -> Running | None:
    """The house that is up now and keeps its logs there; what a killed one left says nothing."""
    try:
        with (logs / FILE).open("rb") as file:
            return msgspec.json.decode(file.read(), type=Running) if _held(file) else None
    except (OSError, msgspec.DecodeError):
        return None


def _held(file: BinaryIO) -> bool:
    """Whether somebody has it locked; of those who ask this, none is taken for that."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
