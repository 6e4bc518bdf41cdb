"""`hanlin user`: somebody who may open the page, and the hash of their password."""

from __future__ import annotations

import json
import re
import sys
from getpass import getpass
from pathlib import Path

from assistants.errors import HanlinError
from hanlin.private_file import rewrite
from serve.ui.login.passwords import Hash
from serve.ui.login.users import USER_PATTERN, UserSources

HEAD = "users:"
YAML_WORDS = ("true", "false", "null")
LEAST = 8


def make(name: str, file: Path | None) -> None:
    """Ask for a password (or read it from standard input), and print or keep its entry.

    Raises:
        HanlinError: the name is none or taken, or the password is too short.
    """
    if not re.fullmatch(USER_PATTERN, name):
        raise HanlinError(f"{name!r} is not a name (no blanks, ':' or ','; 64 characters at most).")
    if file is None:
        sys.stdout.write(f"{name}={Hash.of(_password(name))}\n")
        return
    _require_new(name, file)  # before a password is asked for
    _keep(name, Hash.of(_password(name)), file)
    sys.stderr.write(f"'{name}' may open a page that is started with --users {file}.\n")


def _keep(name: str, hashed: Hash, file: Path) -> None:
    said = name if name.isidentifier() and name not in YAML_WORDS else json.dumps(name)

    def longer(before: str) -> str:
        _require_new(name, file)
        return f"{before.rstrip() or HEAD}\n  {said}: {hashed}\n"

    def require_user(part: Path) -> None:
        try:
            UserSources(part).read()[name]
        except (HanlinError, KeyError) as error:
            raise HanlinError(
                f"{file} does not end with its users; without --file the entry is printed, to be "
                "put into it by hand."
            ) from error

    rewrite(file, longer, require_user)


def _require_new(name: str, file: Path) -> None:
    """Return if there is no such file yet, or it is one of users without this one."""
    if file.exists() and file.stat().st_size > 0 and name in UserSources(file).read():
        raise HanlinError(f"{file} has a user called '{name}' already; take out that line first.")


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
