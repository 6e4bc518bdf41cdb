"""The faults a gateway must stand, and which tests show each; those no other file has are here.

Of each the tests assert what the client saw, what the engines saw, and that nothing is left open.
"""

from __future__ import annotations

import ast
import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from serve.gateway import client
from tests.engine_stub import LLAMACPP_ERROR, EngineStub
from tests.gateway.conftest import Running, session_with
from tests.gateway.test_breaker import replicas_of
from tests.gateway.test_failures import WORDS, ask, raw_stream
from tests.gateway.test_leaving import gate_of, leave, settled

FOLDER = Path(__file__).parent
HERE = "test_fault_cases"
ELSEWHERE = "test_failures.test_another_replica_answers_before_the_first_byte"
DIES = "test_failures.test_an_engine_that_dies_in_a_stream_ends_it_with_an_error_and_done"
CASES = {
    "nothing is lost or changed on the way": [
        "test_serving.test_request_id_and_trace_go_through_and_streams_are_not_to_be_buffered",
        f"{HERE}.test_what_is_not_the_gateway_s_goes_on_as_it_came",
    ],
    "reset in the middle of a stream": [DIES],
    "closed in the middle of a stream": [DIES],
    "an error event in the middle": [DIES],
    "no [DONE]": [
        DIES, "test_failures.test_an_engine_that_forgets_done_after_finishing_is_helped_out",
    ],
    "events that cannot be read": [f"{HERE}.test_an_event_that_nobody_can_read_is_left_out"],
    "events in pieces": [
        "test_failures.test_bytes_in_small_pieces_come_out_as_whole_events",
        "test_stream.test_every_cut_gives_the_same_whole_events",
    ],
    "all replicas drop the connection": [f"{HERE}.test_no_replica_answers"],
    "all replicas say 503": [f"{HERE}.test_no_replica_answers"],
    "an answer that is no JSON": ["test_failures.test_what_engines_say_becomes_the_envelope"],
    "one replica refuses connections": [
        "test_failures.test_a_replica_that_cannot_be_reached_costs_no_request",
    ],
    "one replica says 503": [ELSEWHERE],
    "one replica says 500": [ELSEWHERE],
    "one replica drops the connection": [ELSEWHERE],
    "one replica says 429": [ELSEWHERE],
    "one replica hangs": [
        "test_failures.test_a_stream_that_never_begins_begins_elsewhere",
        "test_leaving.test_a_hung_engine_is_not_asked_again_while_another_is_free",
    ],
    "all replicas hang": ["test_failures.test_an_engine_that_never_begins_is_given_up"],
    "silence in the middle of a stream": [
        "test_failures.test_silence_in_the_middle_ends_with_an_error",
    ],
    "a client leaves in the middle": ["test_leaving.test_in_the_middle_of_a_stream"],
    "a client leaves before the first byte": ["test_leaving.test_before_the_first_byte"],
    "a client leaves before a whole answer": ["test_leaving.test_while_a_whole_answer_is_made"],
    "a kept connection was closed": [
        "test_failures.test_a_stale_connection_is_replaced_once",
        "upstream/test_connections.test_a_kept_connection_that_ends_as_it_is_used_is_replaced_once",
    ],
    "requests that are wrong": [
        "test_unreadable.test_a_body_that_cannot_be_read",
        "test_keys.test_a_wrong_key_is_an_authentication_error",
        "test_any_request.test_any_body",
    ],
    "hundreds leave": ["test_leaving.test_many_leave_and_nothing_is_left"],
    "a thousand clients that say nothing": [f"{HERE}.test_idle_clients_are_in_nobodys_way"],
    "a body of 100 MB": ["test_unreadable.test_a_body_that_is_too_large"],
    "SIGTERM under load": [
        "test_drain.test_streams_finish_and_readiness_goes_first",
        "test_drain.test_streams_that_last_too_long_end_with_an_error_event",
    ],
}  # fmt: skip
"""Fault → the tests, by file and name."""


@pytest.mark.parametrize("case", CASES)
def test_each_fault_has_its_tests(case: str) -> None:
    for test in CASES[case]:
        file, _, name = test.partition(".")
        tree = ast.parse((FOLDER / f"{file}.py").read_text(encoding="utf-8"))
        found = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert name in found, test


async def all_left(gateway: Running, *engines: EngineStub) -> None:
    """Nothing is open any more, at the gateway or at an engine."""
    await settled(gateway)
    assert gate_of(gateway).inside == 0
    for engine in engines:
        await engine.until(lambda e: e.open == 0)


async def test_what_is_not_the_gateway_s_goes_on_as_it_came(
    engine: EngineStub, gateway_for: Any, client_of: Any
) -> None:
    more = {"min_p": 0.05, "metadata": {"a": [1, None]}, "x_unknown": {"b": "ü\u2028"}, "seed": 7}
    gateway = await gateway_for(engine, system="s")
    assert await ask(await client_of(gateway), extra_body=more) == WORDS
    seen = engine.requests[0].json
    assert {name: seen[name] for name in more} == more
    assert set(seen) - set(more) == {"model", "messages", "stream", "temperature", "top_p"}
    await all_left(gateway, engine)


async def test_an_event_that_nobody_can_read_is_left_out(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    def event(text: str) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        return b"data: %b\n\n" % json.dumps({"id": "c", "choices": [choice]}).encode()

    last = event("").replace(b"null", b'"stop"') + b"data: [DONE]\n\n"
    bad = b"data: {broken\n\n" + b"data: \xff\xfe\n\n" + b"data: null\n\n"
    engine = await engine_with(
        raw=True, body=event("春") + bad + event("眠") + last, kind="text/event-stream"
    )
    gateway = await gateway_for(engine)
    assert await ask(await client_of(gateway), stream=True) == "春眠"
    _, events = await raw_stream(gateway)
    assert [e[:8] for e in events] == [b'data: {"'] * 3 + [b"data: [D", b""]
    await all_left(gateway, engine)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("plan", "status", "code"),
    [
        ({"die": "head"}, 502, "engine_dropped"),
        ({"status": 503, "body": b'{"message":"asleep"}'}, 503, "engine_not_ready"),
    ],
)
async def test_no_replica_answers(
    engine_with: Any, gateway_for: Any, client_of: Any, plan: Any, status: int, code: str,
    stream: bool,
) -> None:  # fmt: skip
    engines = [await engine_with(**plan) for _ in range(2)]
    gateway = await gateway_for(*engines)
    body = {"model": "wishes", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    http = (await client_of(gateway))._client
    reply = await http.post(f"{gateway.url}/v1/chat/completions", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    asked = [len(engine.requests) for engine in engines]
    assert all(asked)
    assert sum(asked) <= 4  # a kept connection may have to be replaced
    await all_left(gateway, *engines)


async def test_idle_clients_are_in_nobodys_way(
    engine: EngineStub, gateway_for: Any, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "HEAD_SECONDS", 2)
    gateway = await gateway_for(engine)
    idle = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(300)]
    for _, writer in idle:
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-le")
    assert [await ask(await client_of(gateway)) for _ in range(3)] == [WORDS] * 3
    async with asyncio.timeout(30):
        ends = await asyncio.gather(*[reader.read() for reader, _ in idle])
    assert {end[:12] for end in ends} == {b"HTTP/1.1 408"}
    for _, writer in idle:
        await leave(writer)
    await all_left(gateway, engine)


@pytest.mark.parametrize("stream", [False, True])
async def test_time_that_one_has_used_up_is_not_held_against_another(
    engine: EngineStub, engine_with: Any, gateway_for: Any, client_of: Any, stream: bool
) -> None:
    hung = await engine_with(hang="head")
    gateway = await gateway_for(hung, engine, timeouts={"total": 0.3})
    client, session = await client_of(gateway), session_with(hung, engine)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, stream=stream, extra_headers={"x-session-id": session})
    assert (caught.value.status_code, caught.value.code) == (504, "engine_timeout")
    await hung.until(lambda e: not e.open)
    assert engine.requests == []
    assert sorted(r.breaker.failures for r in replicas_of(gateway)) == [0, 1]


async def test_nobody_asks_more_than_three_of_them(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    failing = [await engine_with(status=500, body=b"x") for _ in range(5)]
    client = await client_of(await gateway_for(*failing))
    with pytest.raises(openai.InternalServerError):
        await ask(client)
    assert sorted(len(engine.requests) for engine in failing) == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_an_engine_without_the_path_of_all_is_no_mistake_of_its_client(
    engine_with: Any, gateway_for: Any, client_of: Any, status: int, stream: bool
) -> None:
    client = await client_of(await gateway_for(await engine_with(status=status, body=b"{}")))
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (502, "engine_failed")


async def test_a_refusal_under_200_in_place_of_a_stream_is_one(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    client = await client_of(await gateway_for(await engine_with(raw=True, body=LLAMACPP_ERROR)))
    with pytest.raises(openai.BadRequestError, match="context size") as caught:
        await ask(client, stream=True)
    assert caught.value.code == "context_length_exceeded"
