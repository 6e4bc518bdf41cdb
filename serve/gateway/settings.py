"""Settings of the gateway itself; those of an assistant are in its YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serve.gateway.admission.keys import OPEN, KeySources

MEBIBYTE = 1 << 20

ENGINE_KEEPALIVE_SECONDS = 4.0
"""Idle connections to engines are dropped before uvicorn-based engines drop them (at 5 s): a
request written to a connection that was just closed is a failure that need not be."""

CLIENT_KEEPALIVE_SECONDS = 75
"""Longer than the 60 s for which proxies in front keep theirs, for the same reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Filled by the command from its options and environment; the defaults serve one host."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    """Processes that share the port; each keeps limits and breakers of its own."""
    engines: str | None = None
    """Base URL of the engine host; None where every assistant has upstreams of its own."""
    engines_key: str | None = None
    """What the engine host and its engines want to be shown."""

    max_body_bytes: int = 8 * MEBIBYTE
    start_seconds: float = 180.0
    """How long a request waits for an engine that is starting or has to be started."""
    first_sign_seconds: float = 5.0
    sign_seconds: float = 10.0
    """After so long, and then so often, a stream that waits is sent a comment: proxies cut what
    says nothing for a minute. Before it, a refusal still has a status of its own."""

    attempts: int = 3
    """How often one request is tried at most, before its first byte."""

    drain_grace_seconds: float = 1.0
    """After SIGTERM: not ready, but still accepting, so that whoever routes here can notice."""
    drain_seconds: int = 30
    """Then: nothing new is accepted, and what runs may finish for so long."""

    keys: KeySources = OPEN
    cors_origins: tuple[str, ...] = ()
    """Of which origins web pages may ask; a browser keeps all others from reading answers."""
    limits_url: str | None = None
    """A Redis in which several gateways count together; None: each counts for itself."""
    metrics_folder: Path | None = None
    """Where the processes of one gateway find each other's numbers; None where there is one."""
    access_log: bool = True
    log_prompts: bool = False
