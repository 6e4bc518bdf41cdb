"""OpenTelemetry spans, where asked for: one for the request, one for the call to the engine.

Attribute names are those of the OpenTelemetry GenAI conventions (repository
open-telemetry/semantic-conventions-genai, schema gen-ai-dev 1.42.0-dev, on conventions 1.44.0).
The packages are the extra `hanlin[otel]`; nothing of them is imported where no spans are wanted.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import msgspec

from assistants import HanlinError
from serve.gateway.exchange import Exchange
from serve.gateway.order.assistant import Order
from serve.gateway.record.visit import Visit
from serve.gateway.surfaces.surface import Surface

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from serve.gateway.upstream.beginning import Delivery

WANTED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NOT_SAMPLED = tuple("02468ace")
"""How the `traceparent` of a caller ends who does not want to be traced (its last bit is 0)."""

PROVIDER = "hanlin"
OPERATIONS = {
    Surface.chat: "chat",
    Surface.completion: "text_completion",
    Surface.responses: "chat",
    Surface.messages: "chat",
    Surface.count: "count_tokens",
}

PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
MISSING = (
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the packages it needs are not installed: "
    "pip install 'hanlin[otel]', or unset it."
)


class _Asked(msgspec.Struct):
    """What a span tells of a request."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    max_tokens: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    """What a span tells of an answer."""

    id: str | None = None
    choices: list[_Choice] = []


_asked = msgspec.json.Decoder(_Asked, strict=False)
_answer = msgspec.json.Decoder(_Answer)


class Trace:
    """The spans of one request that is being traced."""

    def __init__(self, tracer: Tracing, request: Span) -> None:
        self._tracer = tracer
        self._request = request
        self._engine: Span | None = None
        self.id = format(request.get_span_context().trace_id, "032x")

    def ask(self, exchange: Exchange, order: Order, surface: Surface) -> None:
        """An engine is asked now; it gets our span as its parent."""
        self._engine = self._tracer.engine_span(
            self._request, order, OPERATIONS.get(surface, "chat")
        )
        exchange.passed_on["traceparent"] = traceparent(self._engine)

    def end(self, visit: Visit) -> None:
        """Tell what became of it."""
        error = visit.error
        if self._engine is not None:
            self._engine.set_attributes(_outcome(visit))
            _close(self._engine, error)
        self._request.set_attribute("http.response.status_code", visit.exchange.status)
        _close(self._request, error if visit.outcome == "5xx" else None)


class Tracing:
    """Makes spans and sends them, in a thread of its own, to the endpoint the environment names."""

    async def __aenter__(self) -> Self:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        service = os.environ.get("OTEL_SERVICE_NAME") or "hanlin-gateway"
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("hanlin.gateway")
        self._kinds = trace.SpanKind
        self._inside = trace.set_span_in_context
        self._parent = TraceContextTextMapPropagator().extract
        self._nothing = Context()
        self._callers_word = isinstance(self._provider.sampler, ParentBased)
        """Whether a caller that is not traced settles it, so that we need not even ask."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what is not sent yet."""
        await asyncio.to_thread(self._provider.shutdown)

    def begin(self, exchange: Exchange, surface: Surface) -> Trace | None:
        """The trace of a request, or None where it is not among those that are looked at."""
        given = exchange.passed_on
        parent = given.get("traceparent")
        if parent is not None and self._callers_word and parent.endswith(NOT_SAMPLED):
            return None
        span = self._tracer.start_span(
            f"POST {surface.value}",
            context=self._nothing if parent is None else self._parent(given, self._nothing),
            kind=self._kinds.SERVER,
            attributes={
                "http.request.method": "POST",
                "http.route": surface.value,
                "url.path": surface.value,
                "url.scheme": "http",
            },
        )
        if span.is_recording():
            return Trace(self, span)
        given["traceparent"] = traceparent(span)  # so that the engine does not begin one of its own
        return None

    def engine_span(self, request: Span, order: Order, operation: str) -> Span:
        """The span of a GenAI client, as the conventions have it."""
        name = order.assistant.name
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": name,
            "gen_ai.request.stream": order.stream,
        }
        for field, value in _requested(order.body).items():
            attributes[f"gen_ai.request.{field}"] = value
        return self._tracer.start_span(
            f"{operation} {name}",
            context=self._inside(request, self._nothing),
            kind=self._kinds.CLIENT,
            attributes=attributes,
        )


def wanted() -> Tracing | None:
    """What the environment asks for.

    Raises:
        HanlinError: it asks for spans, and what makes them is not installed.
    """
    if not any(os.environ.get(name) for name in WANTED):
        return None
    if not all(_installed(package) for package in PACKAGES):
        raise HanlinError(MISSING)
    return Tracing()


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def traceparent(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _requested(body: bytes) -> dict[str, Any]:
    try:
        asked = _asked.decode(body)
    except msgspec.ValidationError:  # the engine will say so to the client
        return {}
    return {
        name: value for name, value in msgspec.structs.asdict(asked).items() if value is not None
    }


def _outcome(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = {"gen_ai.response.model": visit.assistant}
    if visit.usage is not None:
        found["gen_ai.usage.input_tokens"] = visit.usage.prompt
        found["gen_ai.usage.output_tokens"] = visit.usage.completion
    if visit.first_byte is not None:
        found["gen_ai.response.time_to_first_chunk"] = visit.trail.seconds
    if visit.trail.arrived is not None:
        found |= _answered(visit.trail.arrived)
    if visit.trail.replica is not None:
        place = urlsplit(visit.trail.replica)
        found["server.address"] = place.hostname or ""
        found["server.port"] = place.port or (443 if place.scheme == "https" else 80)
    return found


def _answered(delivery: Delivery) -> dict[str, Any]:
    """What the answer is called and why it ended, whole or not; read only of one that is traced."""
    if delivery.events is not None:
        name, ends = delivery.events.id, delivery.events.ends
    else:
        answer = _answer.decode(delivery.first)
        name, ends = answer.id, tuple(c.finish_reason for c in answer.choices if c.finish_reason)
    told = {"gen_ai.response.id": name, "gen_ai.response.finish_reasons": ends}
    return {key: value for key, value in told.items() if value}


def _close(span: Span, error: str | None) -> None:
    if error is not None:
        from opentelemetry.trace import Status, StatusCode

        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end()
