"""Where the command leaves logs, and how its parts find each other."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from assistants.errors import HanlinError

ASSISTANTS, WORKSPACES = Path("assistants"), Path("workspaces")
GATEWAY = "http://127.0.0.1:8000"
ENGINES = "http://127.0.0.1:8001"


def logs(workspaces: Path) -> Path:
    """The folder of all logs: HANLIN_LOGS, or a folder beside the workspaces they tell of.

    No assistant can be called `.logs`, and two houses do not mix their logs.
    """
    chosen = os.environ.get("HANLIN_LOGS")
    return Path(chosen) if chosen else workspaces / ".logs"


def command() -> str:
    """How this installation's `hanlin` is called from the current folder."""
    here = Path(sys.executable).with_name("hanlin")
    found = shutil.which("hanlin")
    if found and Path(found).resolve() == here.resolve():
        return "hanlin"
    folder = Path.cwd()
    return str(here.relative_to(folder) if here.is_relative_to(folder) else here)


def options_for(assistants: Path, workspaces: Path, environ: Mapping[str, str]) -> str:
    """What any command is to be told, after its other words, so that it means the same folders."""
    given = (
        ("--assistants", assistants, environ.get("HANLIN_ASSISTANTS") or ASSISTANTS),
        ("--workspaces", workspaces, environ.get("HANLIN_WORKSPACES") or WORKSPACES),
    )
    told = (shlex.join([option, str(path)]) for option, path, usual in given if path != Path(usual))
    return "".join(f" {words}" for words in told)


def base_url(given: str) -> str:
    """A part's URL as somebody named it, without a slash at its end.

    Raises:
        HanlinError: it is none that could be asked.
    """
    with contextlib.suppress(ValueError):  # brackets that do not close, ports that are no numbers
        url = urlsplit(given)
        if url.scheme in ("http", "https") and url.hostname and url.port != 0:
            return given.rstrip("/")
    raise HanlinError(f"'{given}' is no URL; one is like {GATEWAY}.")
