"""Spans as a collector receives them: a real OTLP/HTTP receiver that decodes what it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import ArrayValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from assistants import HanlinError
from serve.gateway.record import tracing
from tests.engine_stub import EngineStub
from tests.gateway.conftest import declare, gateway_before, house_of

USER = [{"role": "user", "content": "姐姐生日"}]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@dataclass
class Collector:
    """What was received."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    async def receive(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            told = resource.resource.attributes
            self.services.update(a.value.string_value for a in told if a.key == "service.name")
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        body = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")

    def one(self, kind: Any) -> Span:
        (found,) = [span for span in self.spans if span.kind == kind]
        return found


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    yield collector
    await runner.cleanup()


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: plain(a.value) for a in span.attributes}


def plain(value: Any) -> Any:
    found = getattr(value, value.WhichOneof("value"))
    return [plain(one) for one in found.values] if isinstance(found, ArrayValue) else found


@contextlib.asynccontextmanager
async def asked(engine: EngineStub, *, headers: Any = None, **body: Any) -> AsyncIterator[None]:
    """One request through a gateway; what it had to tell is told when the gateway has ended."""
    given = {"model": "wishes", "messages": USER, **body}
    async with gateway_before(house_of(declare(upstreams=[engine.url]))) as gateway:
        url = f"{gateway.url}/v1/chat/completions"
        async with httpx.AsyncClient(headers=headers) as http:
            await http.post(url, json=given)
    yield


async def test_two_spans_with_the_names_of_the_conventions(
    engine: EngineStub, collector: Collector
) -> None:
    async with asked(engine, max_tokens=7):
        request, client = collector.one(Span.SPAN_KIND_SERVER), collector.one(Span.SPAN_KIND_CLIENT)
    assert collector.services == {"hanlin-gateway"}
    assert (request.name, client.name) == ("POST /v1/chat/completions", "chat wishes")
    assert client.parent_span_id == request.span_id
    assert attributes(request)["http.response.status_code"] == 200
    told = attributes(client)
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hanlin",
        "gen_ai.request.model": "wishes",
        "gen_ai.request.stream": False,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.response.model": "wishes",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
        "server.address": "127.0.0.1",
        "server.port": engine.port,
    }
    assert "姐姐" not in str(collector.spans)


async def test_the_callers_trace_goes_on_and_the_engine_gets_ours(
    engine: EngineStub, collector: Collector
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=1"}
    async with asked(engine, headers=headers, stream=True):
        request, client = collector.one(Span.SPAN_KIND_SERVER), collector.one(Span.SPAN_KIND_CLIENT)
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert engine.requests[0].headers["traceparent"] == f"00-{TRACE}-{client.span_id.hex()}-01"
    assert engine.requests[0].headers["tracestate"] == "a=1"
    assert attributes(client)["gen_ai.response.time_to_first_chunk"] > 0


NAME, ENDS = "gen_ai.response.id", "gen_ai.response.finish_reasons"


@pytest.mark.parametrize(
    ("plan", "asked_for", "ends"),
    [
        ({"finish": "length"}, {"stream": True}, ["length"]),
        ({"finish": "eos_token"}, {}, ["stop"]),  # in the words that the client is told
        ({"tokens": 9}, {"stream": True, "stop": ["word3"]}, ["stop"]),
        ({"tokens": 9}, {"stop": ["word3"]}, ["stop"]),
        ({"tokens": 9, "die": "half", "die_after": 3}, {"stream": True}, None),
    ],
    ids=["stream", "whole", "stopped", "folded", "broken"],
)
async def test_why_the_answer_ended_and_what_it_is_called(
    engine_with: Any, collector: Collector, plan: Any, asked_for: Any, ends: list[str] | None
) -> None:
    async with asked(await engine_with(**plan), **asked_for):
        told = attributes(collector.one(Span.SPAN_KIND_CLIENT))
    assert told[NAME] == "chatcmpl-1"
    assert told.get(ENDS) == ends


async def test_each_choice_has_its_end(engine_with: Any, collector: Collector) -> None:
    choices = [{"index": n, "message": {"role": "assistant", "content": "a"}, "finish_reason": end}
               for n, end in enumerate(("stop", "length"))]  # fmt: skip
    body = {"id": "chatcmpl-2", "object": "chat.completion", "created": 1, "model": "m"}
    raw = json.dumps({**body, "choices": choices}).encode()
    async with asked(await engine_with(raw=True, body=raw), n=2):
        told = attributes(collector.one(Span.SPAN_KIND_CLIENT))
    assert (told[NAME], told[ENDS]) == ("chatcmpl-2", ["stop", "length"])


async def test_an_answer_on_another_surface_is_told_as_the_engine_gave_it(
    engine: EngineStub, collector: Collector
) -> None:
    body = {"model": "wishes", "input": "a", "messages": USER}
    async with (
        gateway_before(house_of(declare(upstreams=[engine.url]))) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as http,
    ):
        for path, name in (("responses", "input"), ("messages/count_tokens", "messages")):
            await http.post(f"/v1/{path}", json={"model": "wishes", name: body[name]})
    answered, counted = (s for s in collector.spans if s.kind == Span.SPAN_KIND_CLIENT)
    assert (attributes(answered)[NAME], attributes(answered)[ENDS]) == ("chatcmpl-1", ["stop"])
    assert not {NAME, ENDS} & attributes(counted).keys()


async def test_what_failed_is_an_error(engine_with: Any, collector: Collector) -> None:
    async with asked(await engine_with(status=500, body=b"no")):
        request, client = collector.one(Span.SPAN_KIND_SERVER), collector.one(Span.SPAN_KIND_CLIENT)
    for span in (request, client):
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert attributes(span)["error.type"] == "engine_failed"


async def test_a_mistake_of_the_client_is_no_error_of_the_server(
    engine: EngineStub, collector: Collector
) -> None:
    async with asked(engine, model="nobody"):
        request = collector.one(Span.SPAN_KIND_SERVER)
    assert request.status.code == Status.STATUS_CODE_UNSET
    assert len(collector.spans) == 1


async def test_who_is_not_traced_leaves_nothing(engine: EngineStub, collector: Collector) -> None:
    given = f"00-{TRACE}-{PARENT}-00"
    async with asked(engine, headers={"traceparent": given}):
        pass
    assert collector.spans == []
    assert engine.requests[0].headers["traceparent"] == given


async def test_the_engine_follows_our_choice_not_to_look(
    engine: EngineStub, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    async with asked(engine):
        pass
    assert collector.spans == []
    flags = engine.requests[0].headers["traceparent"].rpartition("-")[2]
    assert not int(flags, 16) & 1


async def test_a_collector_that_is_away_fails_no_request(
    engine: EngineStub, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    async with asyncio.timeout(30), asked(engine):
        assert len(engine.requests) == 1


def test_nothing_is_imported_where_no_spans_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracing.WANTED:
        monkeypatch.delenv(name, raising=False)
    assert tracing.wanted() is None


def test_wanted_but_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setattr(tracing, "PACKAGES", ("opentelemetry.not_there",))
    with pytest.raises(HanlinError, match=r"hanlin\[otel\]"):
        tracing.wanted()
