"""Engines that fail: what the client is told, what other engines see, that nothing stays open."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from tests.engine_stub import LLAMACPP_ERROR, LMDEPLOY_ERROR, EngineStub, Plan
from tests.gateway.conftest import declare, gateway_before, house_of, session_with
from tests.gateway.upstream.sockets import nobody_accepts

USER = [{"role": "user", "content": "x"}]
WORDS = "word0 word1 word2 word3 word4 "


async def ask(client: Any, *, stream: bool = False, **more: Any) -> str:
    got = await client.chat.completions.create(model="wishes", messages=USER, stream=stream, **more)
    if not stream:
        return str(got.choices[0].message.content)
    return "".join([c.choices[0].delta.content or "" async for c in got])


async def raw_stream(gateway: Any, **more: Any) -> tuple[int, list[bytes]]:
    body = {"model": "wishes", "messages": USER, "stream": True, **more}
    async with httpx.AsyncClient(timeout=20) as http:
        reply = await http.post(f"{gateway.url}/v1/chat/completions", json=body)
    return reply.status_code, reply.content.split(b"\n\n")


@pytest.mark.parametrize("die", ["reset", "close", "half", "error", "no_done"])
async def test_an_engine_that_dies_in_a_stream_ends_it_with_an_error_and_done(
    engine_with: Any, gateway_for: Any, client_of: Any, die: str
) -> None:
    engine = await engine_with(die=die, die_after=2, finish=None)
    gateway = await gateway_for(engine)
    status, events = await raw_stream(gateway)
    assert status == 200
    assert [b"word" in e for e in events] == [True, True, False, False, False]
    error = json.loads(events[2].removeprefix(b"data: "))["error"]
    assert error["type"] == "server_error"
    assert events[3:] == [b"data: [DONE]", b""]
    with pytest.raises(openai.APIError) as caught:
        await ask(await client_of(gateway), stream=True)
    assert caught.value.code in ("engine_dropped", "engine_failed")
    assert len(engine.requests) == 2  # nothing is tried again after the first byte
    await engine.until(lambda e: e.open == 0)


async def test_an_engine_that_forgets_done_after_finishing_is_helped_out(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    engine = await engine_with(die="no_done", die_after=99)
    gateway = await gateway_for(engine)
    assert await ask(await client_of(gateway), stream=True) == WORDS
    assert (await raw_stream(gateway))[1][-2] == b"data: [DONE]"


async def test_bytes_in_small_pieces_come_out_as_whole_events(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    engine = await engine_with(split=3)
    client = await client_of(await gateway_for(engine))
    assert await ask(client, stream=True) == WORDS
    assert await ask(client) == WORDS


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "plan",
    [
        {"die": "head"},
        {"status": 500, "body": b"Internal Server Error", "kind": "text/plain"},
        {"status": 503, "body": b'{"message":"Engine is sleeping","object":"error"}'},
        {"status": 429, "body": b"{}"},
        {"raw": True, "body": b'{"error_code":10402,"text":"engine died"}'},
        {
            "raw": True,
            "body": b'data: {"error":{"message":"no memory"}}\n\n',
            "kind": "text/event-stream",
        },
    ],
)
async def test_another_replica_answers_before_the_first_byte(
    engine: EngineStub, engine_with: Any, gateway_for: Any, client_of: Any, plan: Any, stream: bool
) -> None:
    bad = await engine_with(**plan)
    client = await client_of(await gateway_for(bad, engine))
    session = {"x-session-id": session_with(bad, engine)}
    for _ in range(4):
        assert await ask(client, stream=stream, extra_headers=session) == WORDS
    assert len(bad.requests) == 1  # it rests, though it is asked when no other is left
    assert len(engine.requests) == 4


async def test_a_replica_that_cannot_be_reached_costs_no_request(
    engine: EngineStub, gateway_for: Any, client_of: Any
) -> None:
    nobody = EngineStub(port=1)
    client = await client_of(await gateway_for(nobody, engine))
    assert [await ask(client) for _ in range(3)] == [WORDS] * 3


async def test_a_connection_is_waited_for_as_long_as_the_assistant_says(
    stack: Any, client_of: Any
) -> None:
    with nobody_accepts() as port:
        there = [f"http://127.0.0.1:{port}"]
        patient = declare("patient", upstreams=there, timeouts={"connect": 60})
        hasty = declare("hasty", upstreams=there, timeouts={"connect": 0.2})
        client = await client_of(
            await stack.enter_async_context(gateway_before(house_of(patient, hasty)))
        )
        waits = asyncio.create_task(client.chat.completions.create(model="patient", messages=USER))
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="hasty", messages=USER)
        assert (caught.value.status_code, caught.value.code) == (502, "engine_unreachable")
        assert not waits.done()
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)


async def test_a_stale_connection_is_replaced_once(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    engine = await engine_with(die="head", times=1)
    client = await client_of(await gateway_for(engine))
    assert await ask(client) == WORDS
    assert (len(engine.requests), engine.connections) == (2, 2)


async def test_a_stale_connection_is_replaced_by_a_fresh_one_and_not_by_another_stale_twice(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    engine = await engine_with(tokens_per_second=50)
    client = await client_of(await gateway_for(engine))
    await asyncio.gather(*[ask(client) for _ in range(3)])  # three connections are kept
    engine.plan = Plan(die="head", times=1)
    assert await ask(client) == WORDS
    assert engine.connections == 4


@pytest.mark.parametrize("die", ["reset", "close"])
async def test_half_a_whole_answer_is_asked_for_again_elsewhere(
    engine: EngineStub, engine_with: Any, gateway_for: Any, client_of: Any, die: str
) -> None:
    bad = await engine_with(die=die)
    client = await client_of(await gateway_for(bad, engine))
    session = {"x-session-id": session_with(bad, engine)}
    assert await ask(client, extra_headers=session) == WORDS
    assert len(bad.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("plan", "error", "status", "sentence"),
    [
        ({"die": "head"}, openai.InternalServerError, 502, "closed the connection"),
        (
            {"status": 500, "body": b"Internal Server Error", "kind": "text/plain"},
            openai.InternalServerError,
            502,
            "answered 500: Internal Server Error",
        ),
        ({"status": 502, "body": b"<html>"}, openai.InternalServerError, 502, "it gave no reason"),
        (
            {"status": 503, "body": b'{"message":"asleep"}'},
            openai.InternalServerError,
            503,
            "asleep",
        ),
        ({"status": 429, "body": b'{"message":"full"}'}, openai.RateLimitError, 429, "full"),
        (
            {"status": 401, "body": b'{"message":"key"}'},
            openai.InternalServerError,
            502,
            "401: key",
        ),
        ({"raw": True, "body": b"{"}, openai.InternalServerError, 502, "engine of 'wishes'"),
        ({"status": 400, "body": LMDEPLOY_ERROR}, openai.BadRequestError, 400, "context length"),
        ({"status": 400, "body": LLAMACPP_ERROR}, openai.BadRequestError, 400, "context size"),
        (
            {"status": 422, "body": b'{"detail":"bad field"}'},
            openai.UnprocessableEntityError,
            422,
            "bad field",
        ),
    ],
)
async def test_what_engines_say_becomes_the_envelope(
    engine_with: Any,
    gateway_for: Any,
    client_of: Any,
    plan: Any,
    error: type[openai.APIStatusError],
    status: int,
    sentence: str,
    stream: bool,
) -> None:
    engine = await engine_with(**plan)
    client = await client_of(await gateway_for(engine))
    with pytest.raises(error, match=sentence) as caught:
        await ask(client, stream=stream)
    assert caught.value.status_code == status
    told = caught.value.response.json()["error"]
    assert set(told) == {"message", "type", "param", "code"}
    kinds = {429: "rate_limit_error", 400: "invalid_request_error", 422: "invalid_request_error"}
    assert told["type"] == kinds.get(status, "server_error")
    assert ("retry-after" in caught.value.response.headers) == (status in (429, 503))
    if plan.get("body") is LLAMACPP_ERROR:
        assert told["code"] == "context_length_exceeded"


async def test_an_engine_s_refusal_is_not_asked_for_twice(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    engines = [await engine_with(status=400, body=LMDEPLOY_ERROR) for _ in range(2)]
    client = await client_of(await gateway_for(*engines))
    with pytest.raises(openai.BadRequestError):
        await ask(client)
    assert sum(len(engine.requests) for engine in engines) == 1


@pytest.mark.parametrize(("hang", "stream"), [("head", False), ("head", True), ("first", True)])
async def test_an_engine_that_never_begins_is_given_up(
    engine: EngineStub, engine_with: Any, gateway_for: Any, client_of: Any, hang: str, stream: bool
) -> None:
    hung = await engine_with(hang=hang)
    timeouts = {"first_byte": 0.2, "total": 0.4}
    client = await client_of(await gateway_for(hung, timeouts=timeouts))
    with pytest.raises(openai.InternalServerError, match="gave no answer in") as caught:
        await ask(client, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (504, "engine_timeout")
    await hung.until(lambda e: e.aborted and not e.open)
    assert len(hung.requests) == 1


async def test_a_stream_that_never_begins_begins_elsewhere(
    engine: EngineStub, engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    hung = await engine_with(hang="first")
    client = await client_of(await gateway_for(hung, engine, timeouts={"first_byte": 0.2}))
    session = {"x-session-id": session_with(hung, engine)}
    assert await ask(client, stream=True, extra_headers=session) == WORDS
    assert len(hung.requests) == 1


async def test_silence_in_the_middle_ends_with_an_error(engine_with: Any, gateway_for: Any) -> None:
    engine = await engine_with(hang="middle", die_after=2)
    gateway = await gateway_for(engine, timeouts={"between": 0.2})
    _, events = await raw_stream(gateway)
    assert json.loads(events[2].removeprefix(b"data: "))["error"]["code"] == "engine_timeout"
    assert events[3] == b"data: [DONE]"
    await engine.until(lambda e: e.aborted and not e.open)


async def test_silence_is_counted_anew_from_every_token(engine_with: Any, gateway_for: Any) -> None:
    engine = await engine_with(tokens=12, tokens_per_second=10)
    gateway = await gateway_for(engine, timeouts={"between": 0.5})
    _, events = await raw_stream(gateway)
    assert b"data: [DONE]" in events[-2:]
    assert not [event for event in events if b"error" in event]


async def test_a_stream_has_an_end_even_if_it_is_never_silent(
    engine_with: Any, gateway_for: Any
) -> None:
    engine = await engine_with(tokens=100_000, tokens_per_second=100)
    gateway = await gateway_for(engine, timeouts={"total": 0.5, "between": 0.6})
    _, events = await raw_stream(gateway)
    assert b"engine_timeout" in events[-3]
    await engine.until(lambda e: e.open == 0)


async def test_an_engine_that_loads_is_waited_for_by_the_client(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    engine = await engine_with(load_seconds=60)
    with pytest.raises(openai.InternalServerError, match="Loading model") as caught:
        await ask(await client_of(await gateway_for(engine)))
    assert caught.value.status_code == 503


async def test_nobody_to_ask() -> None:
    async with gateway_before(house_of(declare())) as gateway, httpx.AsyncClient() as http:
        body = {"model": "wishes", "messages": USER}
        reply = await http.post(f"{gateway.url}/v1/chat/completions", json=body)
        ready = await http.get(f"{gateway.url}/ready")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert reply.json()["error"]["message"] == "The engine of 'wishes' is stopped."
    assert (ready.status_code, ready.json()["status"]) == (503, "starting")
