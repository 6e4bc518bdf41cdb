"""What goes wrong with OpenAI's Responses, as its official client is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.engine_stub import EngineStub, Plan
from tests.gateway.conftest import session_with
from tests.gateway.surfaces import checked

Connect = Callable[..., Any]


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "How it is",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, "include: reasoning.encrypted_content"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [WEATHER], "tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": []}, "input"),
        ({"extra_body": {"messages": [{}]}}, "messages"),
        ({"extra_body": {"n": 2}}, "n"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    client: AsyncOpenAI, engine: EngineStub, given: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(**{"model": "wishes", "input": "hi", **given})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert engine.requests == []


@pytest.mark.parametrize("die", ["reset", "half", "error"])
async def test_an_engine_that_dies_in_the_middle(
    client: AsyncOpenAI, engine: EngineStub, die: Any
) -> None:
    engine.plan = Plan(die=die, die_after=2)
    stream = await client.responses.create(model="wishes", input="hi", stream=True)
    events = await checked.responses(stream)
    error, last = events[-2:]
    assert (error.type, last.type) == ("error", "response.failed")
    assert last.response.status == "failed"
    assert last.response.error.code == "server_error"
    assert last.response.output[0].content[0].text == "word0 word1 "


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_dies_before_is_tried_elsewhere(
    client_of: Any, gateway_for: Any, engine_with: Any, stream: bool
) -> None:
    dead, alive = await engine_with(die="head"), await engine_with()
    client = await client_of(await gateway_for(dead, alive))
    session = {"x-session-id": session_with(dead, alive)}
    got = await client.responses.create(
        model="wishes", input="hi", stream=stream, extra_headers=session
    )
    answer = (await checked.responses(got))[-1].response if stream else checked.response(got)
    assert answer.status == "completed"
    assert dead.requests


async def test_failures_have_their_classes(
    client_of: Any, gateway_for: Any, engine: EngineStub
) -> None:
    gateway = await gateway_for(engine, limits={"concurrency": 1, "queue": 0})
    client = await client_of(gateway)
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.responses.create(model="wishs", input="hi")
    assert unknown.value.code == "model_not_found"
    engine.plan = Plan(hang="head")
    waiting = asyncio.create_task(client.responses.create(model="wishes", input="hi"))
    await engine.until(lambda seen: seen.open)
    with pytest.raises(openai.RateLimitError):
        await client.responses.create(model="wishes", input="hi")
    waiting.cancel()
    await engine.until(lambda seen: seen.aborted)
    engine.plan = Plan(
        status=400, body=b'{"error":{"message":"max_tokens: no","param":"max_tokens"}}'
    )
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="wishes", input="hi")
    assert refused.value.param == "max_output_tokens"
