"""The target of a command: where gateway and engine host are, and the keys for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from hanlin import places
from hanlin.client.running import Running, found
from hanlin.client_key import client_key
from serve.engines_key import bearer, engines_key

PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """An engine host of which nobody here can know is None."""

    gateway: str
    engines: str | None
    gateway_key: str | None = None
    engines_key: str | None = None
    up: int | None = None
    """The process that keeps both up, where it is such a house."""


def target(
    gateway: str | None, engines: str | None, running: Running | None, environ: Mapping[str, str]
) -> Target:
    """Those that are named; else those of the house that is up; else the default ports.

    Where another gateway than that of this machine is named, its engine host has to be named too.

    Raises:
        HanlinError: what is named is no URL, or a key cannot be read.
    """
    own = running.gateway if running else places.GATEWAY
    its = running.engines if running else places.ENGINES
    asked = places.base_url(gateway or own)
    host = places.base_url(engines) if engines else its if asked == own else None
    both = running if running and (asked, host) == (own, its) else None
    known = running.engines_key if running and host == running.engines else None
    return Target(
        gateway=asked,
        engines=host,
        gateway_key=client_key(environ),
        engines_key=engines_key(environ) or known,
        up=both.pid if both else None,
    )


def from_here(
    workspaces: Path, *, gateway: str | None = None, engines: str | None = None
) -> Target:
    """Whom to ask from this folder.

    Raises:
        HanlinError: what is named is no URL, or a key cannot be read.
    """
    return target(gateway, engines, found(places.logs(workspaces)), os.environ)


def client(url: str, key: str | None) -> httpx.AsyncClient:
    """Certificates take a while to load, so they are loaded only where one is to be looked at."""
    return httpx.AsyncClient(
        base_url=url,
        headers=bearer(key),
        trust_env=False,
        verify=url.startswith("https:"),
        timeout=PATIENCE_SECONDS,
    )


def away(part: str, url: str, error: httpx.HTTPError) -> str:
    """What is said of one that gives no answer."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return f"The {part} at {url} gives no answer within {PATIENCE_SECONDS:g} s."
    return f"No {part} answers at {url}."


def strange(part: str, url: str, answer: httpx.Response) -> str:
    """What is said of one that gives an answer of another kind."""
    if answer.status_code in (401, 403):
        key = "HANLIN_ENGINES_KEY" if part == "engine host" else "HANLIN_KEY"
        return f"The {part} at {url} wants another key; set {key} to it."
    return f"What answers at {url} is no {part} (HTTP {answer.status_code})."
