"""`hanlin user`: somebody who may open the page, and the hash of their password."""

from __future__ import annotations

import re
import sys
from getpass import getpass
from pathlib import Path

from assistants.errors import HanlinError
from hanlin.own_file import beside
from serve.ui.login.passwords import Hash
from serve.ui.login.users import USER_PATTERN, UserSources

HEAD = "users:\n"
LEAST = 8


def make(name: str, file: Path | None) -> None:
    """Ask for a password (or read it from standard input), and print or keep its entry.

    Raises:
        HanlinError: the name is none or taken, or the password is too short.
    """
    if not re.match(USER_PATTERN, name):
        raise HanlinError(f"'{name}' is not a name (no blanks, ':' or ','; 64 characters at most).")
    taken = file is not None and file.exists() and file.stat().st_size > 0
    if taken and file and name in UserSources(file).read():
        raise HanlinError(f"{file} has a user called '{name}' already; take out that line first.")
    hashed = Hash.of(_password(name))
    if file is None:
        sys.stdout.write(f"{name}={hashed}\n")
        return
    before = file.read_text(encoding="utf-8").rstrip() + "\n" if taken else HEAD
    beside(file, f"{before}  {name}: {hashed}\n").replace(file)
    sys.stderr.write(f"'{name}' may open a page that is started with --users {file}.\n")


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = getpass(f"Password of {name}: ")
        if getpass("Once more: ") != password:
            raise HanlinError("Those were two different passwords; nothing is changed.")
    if len(password) < LEAST:
        raise HanlinError(f"A password has {LEAST} characters at least.")
    return password
