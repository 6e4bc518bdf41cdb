"""`hanlin key`: a new key for the gateway, shown once, and its entry in the file of keys."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from assistants.errors import DeclarationError, HanlinError
from assistants.schema import NAME_PATTERN
from assistants.strict import StrictFile
from hanlin.own_file import beside
from serve.gateway.admission.keys import NO_KEYS, KeyFile, entry, new_key

HEAD = "keys:\n"


def make(name: str, file: Path | None, limits: Mapping[str, object]) -> None:
    """Print a key, and its entry or where that was put.

    Raises:
        HanlinError: the name is none, or is taken in that file.
    """
    if not re.match(NAME_PATTERN, name):
        raise HanlinError(f"'{name}' is not a name (small letters, digits, '.', '_' and '-').")
    key = new_key()
    added = entry(name, key, limits)
    if file is not None:
        append(file, name, added)
        sys.stderr.write(f"Its entry is in {file}; the key itself is nowhere but here:\n")
        sys.stdout.write(f"{key}\n")
        return
    sys.stdout.write(f"{key}\n")
    sys.stderr.write(f"The key is shown this once. What keys.yaml says of it:\n\n{HEAD}{added}")


def append(file: Path, name: str, added: str) -> None:
    """Put an entry at the end of the file, which is made where there is none.

    Raises:
        HanlinError: the file cannot be read as one of keys, or the name is taken.
    """
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    if not before.strip():
        before = HEAD
    elif name in _keys(file):
        raise HanlinError(f"{file} has a key called '{name}' already; take another name.")
    part = beside(file, f"{before.rstrip()}\n{added}")
    try:
        _keys(part)
    except DeclarationError as error:
        part.unlink()
        raise HanlinError(
            f"{file} does not end with its keys; put this into it by hand:\n{added.rstrip()}"
        ) from error
    part.replace(file)


def _keys(file: Path) -> Collection[str]:
    return StrictFile.open(file, what=NO_KEYS).read(KeyFile).keys
