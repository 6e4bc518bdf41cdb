"""Where the engines of one host are: their folders, their addresses, their key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from serve.addresses import LOOPBACK, reached, url
from serve.engines.errors import EngineError
from serve.engines_key import bearer
from serve.ports import PortTakenError, free_port, require_free
from serve.process import Log

ID_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is the same for all engines of a host."""

    workspaces: Path
    logs: Path
    host: str = LOOPBACK
    """The address engines listen on."""
    advertise: str | None = None
    """The name by which others reach this host; None: the address itself."""
    ports: range | None = None
    """Where engines may listen; None: wherever there is a free port."""
    key: str | None = None
    options: str = ""
    """What `hanlin convert` is to be told beside a name, so that it builds what is served here."""

    def workspace(self, assistant: str, engine: str) -> Path:
        return self.workspaces / assistant / engine

    def log(self, assistant: str, place: int = 1) -> Log:
        """Of several engines of one assistant, each has a place, and its place has a log."""
        name = f"engine-{assistant}{f'+{place}' if place > 1 else ''}.log"
        return Log(self.logs / name, noted=True)

    def url(self, port: int) -> str:
        """Where gateways reach an engine."""
        return url(self.advertise or reached(self.host), port)

    def client(self, port: int, *, seconds: float) -> httpx.AsyncClient:
        """For questions to an engine of our own."""
        # Plain HTTP on this machine: no proxy of the environment, and no certificates to load.
        return httpx.AsyncClient(
            base_url=url(reached(self.host), port),
            headers=bearer(self.key),
            timeout=seconds,
            trust_env=False,
            verify=False,
        )


class Ports:
    """Which ports are promised to engines that do not listen yet."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._promised: set[int] = set()

    def take(self) -> int:
        """A port nobody listens on, and that nobody else was given.

        Raises:
            EngineError: every port of the range is taken.
        """
        host, ports = self._site.host, self._site.ports
        port = free_port(host) if ports is None else self._first(host, ports)
        self._promised.add(port)
        return port

    def give_back(self, port: int) -> None:
        self._promised.discard(port)

    def _first(self, host: str, ports: Sequence[int]) -> int:
        for port in ports:
            if port in self._promised:
                continue
            try:
                require_free(host, port, option="--engine-ports")
            except PortTakenError:
                continue
            return port
        raise EngineError(
            f"Every port from {ports[0]} to {ports[-1]} is taken; name more with --engine-ports."
        )


def manifest_id(workspace: Path) -> str | None:
    """What tells one build of a workspace from another; None: there is none."""
    try:
        digest = hashlib.sha256((workspace / "manifest.json").read_bytes())
    except OSError:
        return None
    return digest.hexdigest()[:ID_DIGITS]
