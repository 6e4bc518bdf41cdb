"""Addresses to listen on, and the address at which such a listener is reached from this machine."""

from __future__ import annotations

LOOPBACK = "127.0.0.1"
LOOPBACKS = frozenset({LOOPBACK, "::1", "localhost"})
"""What nobody but this machine reaches."""
ANYWHERE = {"0.0.0.0": LOOPBACK, "::": "::1"}
"""Addresses one listens on and cannot be reached at, with one that reaches them from here."""


def reached(host: str) -> str:
    """Where what listens on `host` is reached from this machine."""
    return ANYWHERE.get(host, host)


def url(host: str, port: int) -> str:
    """The base URL of what is reached at `host`."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
