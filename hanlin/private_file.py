"""Files that only their owner may read, written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from assistants.errors import HanlinError


def rewrite(file: Path, change: Callable[[str], str], check: Callable[[Path], None]) -> None:
    """Put in the place of a file what `change` makes of its text, which is empty where there is no
    file yet; `check` is shown the new one first, and nothing has happened if it raises.

    A file that is there keeps its owner and its mode: a gateway that runs as somebody else may be
    reading it. Of two who write at once, the second is shown what the first has written.

    Raises:
        HanlinError: it cannot be read or written, or is not text.
    """
    file = file.resolve()  # a link stays one
    try:
        with _alone(file.parent):
            before = file.stat() if file.exists() else None
            text = change(file.read_text(encoding="utf-8") if before else "")
            handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
            part = Path(name)
            try:
                with os.fdopen(handle, "wb") as out:
                    out.write(text.encode())
                    out.flush()
                    os.fsync(handle)
                    if before:
                        _as_before(handle, before)
                check(part)
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)
    except UnicodeDecodeError as error:
        raise HanlinError(f"{file} is not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise HanlinError(f"{file} cannot be written: {error.strerror}.") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only one who writes so in a folder; the lock leaves nothing in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _as_before(handle: int, before: os.stat_result) -> None:
    now = os.fstat(handle)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        os.fchown(handle, before.st_uid, before.st_gid)
    os.fchmod(handle, before.st_mode & 0o777)
