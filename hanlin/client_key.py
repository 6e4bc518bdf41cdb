"""The key that the page and the command send to the gateway, from the environment or a file."""

from __future__ import annotations

from collections.abc import Mapping

from serve.secret import secret


def client_key(environ: Mapping[str, str]) -> str | None:
    """HANLIN_KEY, or what is in the file that HANLIN_KEY_FILE names; None where there is neither.

    Raises:
        HanlinError: both are set, or the file is named and cannot be read.
    """
    return secret(environ, "HANLIN_KEY") or None
