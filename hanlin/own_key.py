"""The key with which the page and the command ask, from the environment or a file it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from assistants.errors import HanlinError

KEY, FILE = "HANLIN_KEY", "HANLIN_KEY_FILE"


def own_key(environ: Mapping[str, str]) -> str | None:
    """HANLIN_KEY, or what is in the file that HANLIN_KEY_FILE names; None where there is neither.

    Raises:
        HanlinError: the file is named and cannot be read.
    """
    if key := environ.get(KEY):
        return key
    if not (file := environ.get(FILE)):
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip() or None
    except OSError as error:
        raise HanlinError(f"{FILE} names {file}: {error.strerror}.") from error
