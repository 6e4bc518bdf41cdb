"""The entrance of `hanlin`, and the one place where an error becomes words on a screen."""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

FAILED = 1
"""The exit code where something went wrong; wrong usage is 2, as Typer says it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    from hanlin.commands import run  # only what is asked for is imported

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter this terminal has not is shown as '?'
            stream.reconfigure(errors="replace")
    try:
        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return FAILED
    except Exception as error:  # noqa: BLE001 - here, and only here, everything has to be told
        cause = _only_cause(error)
        if os.environ.get("HANLIN_DEBUG") == "1":
            traceback.print_exception(cause)
        else:
            sys.stderr.write(f"{sentence(cause)}\n")
        return FAILED


def sentence(error: BaseException) -> str:
    """What a person is told of an error."""
    from assistants.errors import HanlinError  # brings pydantic, which --help can do without

    if isinstance(error, HanlinError):
        return str(error)
    if isinstance(error, MemoryError):
        return "Memory ran out; close other programs, or use a smaller model."
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        if error.errno == errno.ENOSPC:
            return f"The disk is full{where}; free some space and run the command again."
        return f"{error.strerror}{where}."
    return (
        f"Hanlin made a mistake of its own ({type(error).__name__}: {error}); the details are in "
        f"{_write_down(error)}, please report them."
    )


def _only_cause(error: BaseException) -> BaseException:
    """What stands behind a group of one, as task groups make it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _write_down(error: BaseException) -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="hanlin-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exception(error, file=file)
    return file.name


if __name__ == "__main__":
    sys.exit(main())
