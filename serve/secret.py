"""Secrets in the environment, or in files that it names, as containers are given them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from assistants.errors import HanlinError


def secret(environ: Mapping[str, str], variable: str) -> str | None:
    """What the variable says, or what stands in the file that `<variable>_FILE` names, without the
    blanks around it; None where neither is set.

    Raises:
        HanlinError: both are set, or the file cannot be read or is not text.
    """
    given, named = environ.get(variable) or None, f"{variable}_FILE"
    file = environ.get(named)
    if not file:
        return given
    if given:
        raise HanlinError(f"{variable} and {named} are both set; unset one of them.")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise HanlinError(f"{named} names {file}: {why}.") from error
