"""The gateway as the official client and plain HTTP see it when all is well."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.engine_stub import EngineStub

USER = [{"role": "user", "content": "祝姐姐生日快乐"}]
WORDS = "word0 word1 word2 word3 word4 "


async def test_a_whole_answer(engine: EngineStub, gateway_for: Any, client_of: Any) -> None:
    client = await client_of(await gateway_for(engine, system="你是谁", aliases=["tianji"]))
    answer = await client.chat.completions.create(model="tianji", messages=USER)
    assert answer.choices[0].message.content == WORDS
    assert engine.requests[0].json["model"] == "wishes"
    assert engine.requests[0].json["messages"][0] == {"role": "system", "content": "你是谁"}


async def test_a_stream(engine: EngineStub, gateway_for: Any, client_of: Any) -> None:
    client = await client_of(await gateway_for(engine))
    stream = await client.chat.completions.create(model="wishes", messages=USER, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == WORDS
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_completions(engine: EngineStub, gateway_for: Any, client_of: Any) -> None:
    client = await client_of(await gateway_for(engine, limits={"max_tokens": 9}))
    whole = await client.completions.create(model="wishes", prompt="床前", max_tokens=99)
    stream = await client.completions.create(model="wishes", prompt="床前", stream=True)
    assert whole.choices[0].text == WORDS
    assert "".join([c.choices[0].text async for c in stream]) == WORDS
    assert engine.requests[0].json["max_tokens"] == 9
    assert engine.requests[0].path == "/v1/completions"


async def test_the_synchronous_client(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)

    def ask() -> str | None:
        with OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
            return (
                client.chat.completions.create(
                    model="wishes", messages=[{"role": "user", "content": "x"}]
                )
                .choices[0]
                .message.content
            )

    assert await asyncio.to_thread(ask) == WORDS


async def test_models(engine: EngineStub, gateway_for: Any, client_of: Any) -> None:
    style = {"choices": {"正常": "", "小红书": "，小红书风格"}}
    gateway = await gateway_for(
        engine, aliases=["tianji"], controls={"style": style}, limits={"max_tokens": 7}
    )
    client = await client_of(gateway)
    (card,) = (await client.models.list()).data
    assert (card.id, card.object, card.owned_by) == ("wishes", "model", "hanlin")
    assert card == await client.models.retrieve("tianji")
    extra = card.model_extra
    assert extra["title"] == {"zh": "wishes", "en": "wishes"}
    assert (extra["state"], extra["aliases"], extra["limits"]) == (
        "ready",
        ["tianji"],
        {"max_tokens": 7},
    )
    assert extra["controls"] == {
        "style": {"title": None, "choices": ["正常", "小红书"], "free": False, "default": "正常"}
    }
    assert {"system", "client_system", "history", "sampling", "examples", "description"} <= set(
        extra
    )


async def test_an_unknown_name(engine: EngineStub, gateway_for: Any, client_of: Any) -> None:
    client = await client_of(await gateway_for(engine))
    with pytest.raises(openai.NotFoundError, match="Did you mean 'wishes'") as caught:
        await client.chat.completions.create(model="wish", messages=USER)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="Did you mean 'wishes'"):
        await client.models.retrieve("wish")
    assert engine.requests == []


async def test_the_controls_become_a_prompt(engine: EngineStub, gateway_for: Any) -> None:
    style = {"choices": {"正常": "", "小红书": "，小红书风格"}}
    gateway = await gateway_for(engine, controls={"style": style})
    async with httpx.AsyncClient(base_url=f"{gateway.url}/v1/assistants") as http:
        given = {"values": {"style": "小红书"}, "message": "祝姐姐"}
        said = (await http.post("/wishes/prompt", json=given)).json()
        bad = await http.post("/wishes/prompt", json={"values": {"style": "x"}})
        unknown = await http.post("/wishes/prompt", json={"values": {"tone": "x"}})
        shape = await http.post("/wishes/prompt", json={"values": 3})
        nobody = await http.post("/wish/prompt", json={})
    assert said == {"prompt": "祝姐姐，小红书风格"}
    assert (bad.status_code, bad.json()["error"]["message"]) == (
        400,
        "'x' is not among 正常, 小红书.",
    )
    assert "no control 'tone'; it has style" in unknown.json()["error"]["message"]
    assert (shape.status_code, shape.json()["error"]["param"]) == (400, "values")
    assert nobody.status_code == 404


async def test_health_and_readiness(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
        ready = await http.get("/ready")
        gateway.app.draining = True
        draining = await http.get("/ready")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ready", "assistants": {"wishes": "ready"}, "problem": None},
    )
    assert (draining.status_code, draining.json()["status"]) == (503, "draining")


@pytest.mark.parametrize(
    ("path", "like"),
    [
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        ("/v2/models", "/v1/models"),
        ("/", None),
    ],
)
async def test_an_unknown_path_names_the_nearest(
    engine: EngineStub, gateway_for: Any, path: str, like: str | None
) -> None:
    gateway = await gateway_for(engine)
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        reply = await http.post(path, json={})
    hint = f" Did you mean {like}?" if like else ""
    assert (reply.status_code, reply.json()["error"]["message"]) == (
        404,
        f"There is no {path} here.{hint} The API is under /v1, and GET /docs tells all of it.",
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
    ],
)
async def test_wrong_paths_and_methods_get_the_envelope(
    engine: EngineStub, gateway_for: Any, method: str, path: str, status: int
) -> None:
    gateway = await gateway_for(engine)
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        reply = await http.request(method, path)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


async def test_request_id_and_trace_go_through_and_streams_are_not_to_be_buffered(
    engine: EngineStub, gateway_for: Any
) -> None:
    gateway = await gateway_for(engine)
    body = {"model": "wishes", "messages": USER, "stream": True}
    sent = {"x-request-id": "rid-1", "traceparent": "00-aa-bb-01", "authorization": "Bearer secret"}
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        named = await http.post("/v1/chat/completions", json=body, headers=sent)
        plain = await http.post("/v1/chat/completions", json=body, headers={"x-request-id": "a b"})
    first, second = engine.requests
    assert named.headers["x-request-id"] == first.headers["x-request-id"] == "rid-1"
    assert first.headers["traceparent"] == "00-aa-bb-01"
    assert "authorization" not in first.headers
    assert named.headers["x-accel-buffering"] == "no"
    assert named.headers["cache-control"] == "no-cache"
    assert plain.headers["x-request-id"] == second.headers["x-request-id"] != "a b"


@pytest.mark.parametrize("split", [0, 7])
async def test_connections_to_an_engine_are_used_again(
    engine_with: Any, gateway_for: Any, split: int
) -> None:
    engine = await engine_with(split=split)  # so that the body's end comes after its last event
    gateway = await gateway_for(engine)
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        for stream in (True, False, True):
            body = {"model": "wishes", "messages": USER, "stream": stream}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
            await engine.until(lambda e: e.open == 0)
    assert (len(engine.requests), engine.connections) == (3, 1)


async def test_no_token_waits_for_the_next(engine: EngineStub, gateway_for: Any) -> None:
    """Nagle's algorithm holds small writes back; both sides must have it off."""
    gateway = await gateway_for(engine)
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        await http.post("/v1/chat/completions", json={"model": "wishes", "messages": USER})
        completion: Any = gateway.app.hot["/v1/chat/completions"]
        (origin,) = completion._way.deliverer._upstream._origins.values()
        transports = [c.transport for c in gateway.server.server_state.connections]
        transports.append(origin.idle[0]._transport)
        options = [
            t.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for t in transports
        ]
    assert len(options) == 2
    assert all(options)
