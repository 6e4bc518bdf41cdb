"""How patient a host is with its engines: the figures by which every decision is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """All in seconds but the counts."""

    load: float = 600.0
    """How long until its first token."""
    stable: float = 60.0
    """After so long in service, an ending counts as the first again."""
    loop: int = 3
    """So many endings in a row are a crash loop."""
    first_wait: float = 0.5
    longest_wait: float = 60.0
    look_again: float = 2.0
    """How often a missing workspace is looked for."""
    probe_every: float = 5.0
    probe_timeout: float = 5.0
    misses: int = 3
    """So many probes in a row without an answer, and the engine hangs."""
    poll_loading: float = 0.2
    token_every: float = 60.0
    """How often one that nobody uses must write a token."""
    token_timeout: float = 30.0
    standstill: float = 2.0
    """So many times what a stream may take to begin, and an engine that has requests and gets on
    with none of them hangs."""
    drain: float = 30.0
    """How long requests in flight may take when the host stops."""
    slack: float = 5.0
    """Longer than the longest request that is declared possible, one waits for no engine to be free
    of requests; what is in flight then hangs."""
    grace: float = 10.0
    """From SIGTERM to SIGKILL."""
    minimum_stay: float = 20.0
    """So long an engine stays, once it is ready, before it makes room for another."""
    patience: float = 30.0
    """After so long a wait for room, one that is never without requests is drained too."""
    hearing: float = 1.0
    """How long the gateways may take to say who is idle before room is made."""
    look_at_gpus: float = 15.0
