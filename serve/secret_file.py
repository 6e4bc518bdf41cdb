"""Secrets in files that a variable of the environment names, as containers are given them."""

from __future__ import annotations

from pathlib import Path

from assistants.errors import HanlinError


def read_secret(variable: str, file: str) -> str:
    """What stands in the file, without the blanks around it.

    Raises:
        HanlinError: it cannot be read, or is not text.
    """
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise HanlinError(f"{variable} names {file}: {why}.") from error
