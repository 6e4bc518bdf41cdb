"""The record of one request: filled while it runs, written by the ledger."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from serve.gateway.admission.keys import ANYONE, Key
from serve.gateway.answers.usage import Usage
from serve.gateway.exchange import CLIENT_LEFT, Exchange
from serve.gateway.order.assistant import Order
from serve.gateway.surfaces.surface import Surface
from serve.gateway.upstream.delivery import Trail

if TYPE_CHECKING:
    from serve.gateway.record.tracing import Trace

NOBODY = "unknown"
"""The name under which all requests for unknown assistants are counted: what clients make up must
not become a label."""


class Visit:
    """What became of one request, and how long each part of it took (seconds)."""

    __slots__ = (
        "ended",
        "exchange",
        "first_byte",
        "key",
        "order",
        "queued",
        "surface",
        "trace",
        "trail",
        "usage",
    )

    def __init__(self, surface: Surface, exchange: Exchange) -> None:
        self.surface = surface
        self.exchange = exchange
        self.key: Key = ANYONE
        self.order: Order | None = None
        self.trail = Trail()
        self.usage: Usage | None = None
        self.trace: Trace | None = None
        self.queued = 0.0
        self.first_byte: float | None = None
        """When the first events of a stream were handed on."""
        self.ended = 0.0

    @property
    def assistant(self) -> str:
        return self.order.assistant.name if self.order is not None else NOBODY

    @property
    def seconds(self) -> float:
        return self.ended - self.exchange.started

    @property
    def to_first_token(self) -> float | None:
        return None if self.first_byte is None else self.first_byte - self.exchange.started

    @property
    def overhead(self) -> float:
        """What the gateway itself took of the time to the answer's beginning."""
        return (
            (self.first_byte or self.ended)
            - self.exchange.started
            - self.queued
            - self.trail.seconds
        )

    @property
    def outcome(self) -> str:
        """The class of the status; a stream that failed after its 200 is one that failed."""
        status, failure = self.exchange.status, self.exchange.failure
        if failure is not None:
            status = failure.status
        return "left" if status == CLIENT_LEFT else f"{status // 100}xx"

    @property
    def error(self) -> str | None:
        failure = self.exchange.failure
        return None if failure is None else failure.code or failure.type

    @property
    def under_way(self) -> int:
        """Tokens of an answer that has begun, as far as it has come."""
        arrived = self.trail.arrived
        usage = None if arrived is None else arrived.usage
        return 0 if usage is None else usage.completion

    @property
    def retries(self) -> int:
        return max(self.trail.tries - 1, 0)

    @property
    def trace_id(self) -> str | None:
        """Of our span, or of the caller's where we make none."""
        if self.trace is not None:
            return self.trace.id
        parent = self.exchange.passed_on.get("traceparent")
        return parent[3:35] if parent else None

    def end(self) -> None:
        self.ended = time.perf_counter()
