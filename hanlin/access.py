"""Who may use the gateway: where its keys are, and the warnings about leaving it open."""

from __future__ import annotations

import os
from pathlib import Path

from assistants.errors import HanlinError
from assistants.load import House
from hanlin.client_key import client_key
from serve.addresses import LOOPBACKS
from serve.gateway.admission.keys import Keys, KeySources
from serve.gateway.errors import UnauthorizedError


def key_sources(file: Path | None) -> KeySources:
    """The file that is named, and the keys in HANLIN_KEYS."""
    plain = (key.strip() for key in os.environ.get("HANLIN_KEYS", "").split(","))
    return KeySources(file=file, plain=tuple(key for key in plain if key))


def exposed(host: str, sources: KeySources) -> str | None:
    """The warning for a gateway that anybody may use who reaches it; None where none is due."""
    if sources.file or sources.plain or host in LOOPBACKS:
        return None
    return (
        f"Anybody who reaches {host} may use this gateway: make a key with "
        "hanlin key NAME --file keys.yaml, and start with --keys keys.yaml."
    )


def unserved(engines: str | None, house: House) -> str | None:
    """The warning for a gateway that has nobody to ask; None where it has."""
    if engines or any(assistant.upstreams for assistant in house):
        return None
    return (
        "No assistant can answer: name an engine host with --engines URL, or engines that run "
        "elsewhere with `upstreams` in a declaration."
    )


def uncounted(workers: int, limits_url: str | None, sources: KeySources) -> str | None:
    """The warning for processes that each count for themselves; None where they do not."""
    if workers == 1 or limits_url or not sources.file:
        return None
    return (
        f"Each of the {workers} processes counts the rates of keys for itself; where keys have "
        "limits, name a Redis with --limits-url."
    )


def require_key_of_page(sources: KeySources, house: House) -> None:
    """Return if the page will be let in; whoever reaches the page then asks with its key.

    Raises:
        HanlinError: the file of keys cannot be read, or `client_key` is none of them.
    """
    keys = Keys(sources, house)
    try:
        keys.visitor((client_key(os.environ) or "").encode())
    except UnauthorizedError as error:
        raise HanlinError(
            "The page needs a key too, and whoever reaches the page uses it: set HANLIN_KEY to one "
            "that the gateway knows, or start with --no-ui."
        ) from error
