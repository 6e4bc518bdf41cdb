"""`hanlin key`: a new key for the gateway, shown once, and its entry in the file of keys."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from assistants.errors import DeclarationError, HanlinError
from assistants.schema import NAME_PATTERN
from assistants.strict import StrictFile
from hanlin.private_file import rewrite
from serve.gateway.admission.keys import NO_KEYS, KeyFile, entry, new_key

HEAD = "keys:\n"
KEPT = "Into the file of keys (--keys FILE), below those that are there (--file FILE puts it in):"
HANDED_OVER = "Give this key to its user; it is shown only once:"


def make(name: str, file: Path | None, limits: Mapping[str, object]) -> None:
    """Print a key, last and alone on standard output, and its entry or where that was put.

    Raises:
        HanlinError: the name is none, or is taken in that file.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise HanlinError(f"{name!r} is not a name (small letters, digits, '.', '_' and '-').")
    key = new_key()
    added = entry(name, key, limits)
    if file is not None:
        append(file, name, added)
        sys.stderr.write(f"What the gateway has to know is in {file}.\n\n{HANDED_OVER}\n\n")
    else:
        sys.stderr.write(f"{KEPT}\n\n{HEAD}{added}\n{HANDED_OVER}\n\n")
    sys.stdout.write(f"{key}\n")


def append(file: Path, name: str, added: str) -> None:
    """Put an entry at the end of the file, which is made where there is none.

    Raises:
        HanlinError: the file cannot be read as one of keys, or the name is taken.
    """

    def longer(before: str) -> str:
        if not before.strip():
            return HEAD + added
        if name in _keys(file):
            raise HanlinError(f"{file} has a key called '{name}' already; take another name.")
        return f"{before.rstrip()}\n{added}"

    def require_keys(part: Path) -> None:
        try:
            _keys(part)
        except DeclarationError as error:
            raise HanlinError(
                f"{file} does not end with its keys; without --file key and entry are shown, and "
                "the entry can be put into it by hand."
            ) from error

    rewrite(file, longer, require_keys)


def _keys(file: Path) -> Collection[str]:
    return StrictFile.open(file, what=NO_KEYS).read(KeyFile).keys
