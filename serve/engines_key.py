"""The API key of the engine host and its engines, as the environment gives it.

Who reaches an engine can use it without the gateway's limits, so wherever others than ourselves
reach them they want this key. The gateway brings it; `hanlin up` makes one for each run.
"""

from __future__ import annotations

from collections.abc import Mapping

from assistants.errors import HanlinError
from serve.secret import secret

VARIABLE = "HANLIN_ENGINES_KEY"
FILE_VARIABLE = "HANLIN_ENGINES_KEY_FILE"
"""A file that holds it, as containers are given secrets."""


def engines_key(environ: Mapping[str, str]) -> str | None:
    """The key; None where engines are open to whoever reaches them.

    Raises:
        HanlinError: both are set, a file cannot be read, or what is named is no key.
    """
    given, file = secret(environ, VARIABLE), environ.get(FILE_VARIABLE)
    if given is not None and not (given and given.isascii() and given.isprintable()):
        source = f"{FILE_VARIABLE}: {file}" if file else VARIABLE
        raise HanlinError(f"{source} holds no key: one line of printable ASCII is wanted.")
    return given


def bearer(key: str | None) -> dict[str, str]:
    """The header that brings it."""
    return {"Authorization": f"Bearer {key}"} if key else {}
