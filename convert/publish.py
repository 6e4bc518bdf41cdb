"""A folder appears complete or not at all, whatever kills the process that was making it.

It is made under another name beside its place, forced to the disk, and then put there in one
step: the kernel swaps it with the old one, or, where it cannot, the old one is renamed away
first. What a killed builder left behind is removed by the next one, who knows it is dead because
the lock is free.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from convert.errors import BuildError, writing

_HERE = -100  # AT_FDCWD: paths are what they say
_EXCHANGE = 2


@contextmanager
def locked(target: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Be the only builder of `target`; `waiting` is called if another one has to finish first."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing(target.parent, error) from error
    path = target.parent / f".{target.name}.lock"
    while True:
        with path.open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_still(path, lock):  # whoever held it has removed it: the next has another
                continue
            try:
                recover(target)
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(path: Path, lock: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` if the `with` ends well; to be used under `locked`."""
    staging = target.parent / f".{target.name}.building"
    try:
        staging.mkdir()
        yield staging
        _to_disk(staging)
        _swap_in(staging, target)
    except OSError as error:
        if error.filename is not None and not _lies_in(target.parent, Path(error.filename)):
            raise  # about something that was to be read
        raise writing(staging, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _lies_in(folder: Path, path: Path) -> bool:
    return folder in (path, *path.parents)


def require_new(out: Path) -> None:
    """Return if a folder can be made there.

    Raises:
        BuildError: something already exists.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BuildError(f"{out} already exists; remove it or choose another folder.")


def replaced(path: Path, text: str) -> None:
    """Put a small file in its place, whole, or leave the one that is there as it was.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        part.write_text(text, encoding="utf-8")
        _sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def recover(target: Path) -> None:
    """Put right what a killed builder of `target` left; its lock must be held."""
    old, staging = _old(target), target.parent / f".{target.name}.building"
    if old.exists() and not target.exists():
        old.rename(target)  # it died between the two renames
    for leftover in (old, staging):
        shutil.rmtree(leftover, ignore_errors=True)


def _old(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


def _swap_in(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
    elif not _exchanged(staging, target):  # the old one is now where staging was
        old = _old(target)
        target.rename(old)
        staging.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    _sync(target.parent)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where this system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is None:
        return False
    done: int = swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)
    return done == 0


def _to_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
