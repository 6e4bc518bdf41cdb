"""What a host tells of one engine, in the words of its HTTP API."""

from __future__ import annotations

from typing import Any

from serve.engines.supervision.context import HostContext
from serve.engines.supervision.replica import Replica


def report(replica: Replica, context: HostContext) -> dict[str, Any]:
    """One entry of `GET /replicas`."""
    grant = context.allocator.held_by(replica)
    own = None if grant and grant.gpu else replica.memory
    return {
        "id": replica.id,
        "assistant": replica.assistant.name,
        "url": context.site.url(replica.port) if replica.running else "",
        "state": replica.status.state.value,
        "restarts": replica.status.restarts,
        "reason": replica.status.reason,
        "log": replica.process.tail() if replica.process else [],
        "engine": context.engine.name,
        "devices": list(grant.devices) if grant else [],
        "memory": (own or (grant.taken if grant else 0)) if replica.running else 0,
        "since": round(replica.since, 3),
        "pinned": replica.assistant.pinned,
        "workspace": replica.made_of.workspace if replica.made_of else None,
    }
