"""The key with which the page and the command ask, from the environment or a file it names."""

from __future__ import annotations

from collections.abc import Mapping

from serve.secret_file import read_secret

KEY, FILE = "HANLIN_KEY", "HANLIN_KEY_FILE"


def own_key(environ: Mapping[str, str]) -> str | None:
    """HANLIN_KEY, or what is in the file that HANLIN_KEY_FILE names; None where there is neither.

    Raises:
        HanlinError: the file is named and cannot be read.
    """
    if key := environ.get(KEY):
        return key
    file = environ.get(FILE)
    return (read_secret(FILE, file) or None) if file else None
