"""What goes wrong with Anthropic's Messages, as its official client is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from serve.gateway.admission.keys import KeySources
from tests.engine_stub import EngineStub, Plan
from tests.gateway.conftest import session_with
from tests.gateway.surfaces import checked
from tests.gateway.surfaces.spoken import called, streamed

Connect = Callable[..., Any]


async def read_into(said: list[Any], stream: AsyncIterator[Any]) -> None:
    async for event in stream:
        said.append(event)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools\\[0\\]"),
        ({"extra_body": {"mcp_servers": [{}]}}, "mcp_servers"),
        ({"extra_body": {"stop": ["a"]}}, "use 'stop_sequences'"),
        ({"extra_body": {"logprobs": True}}, "logprobs"),
        ({"speed": "fast"}, "speed"),
        ({"stop_sequences": [""]}, "stop_sequences\\[0\\]"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "'document'"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"system": [{"type": "image"}]}, "system\\[0\\]"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    claude: AsyncAnthropic, engine: EngineStub, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=says) as caught:
        await checked.ask(claude, **given)
    assert caught.value.type == "invalid_request_error"
    assert engine.requests == []


@pytest.mark.parametrize("die", ["reset", "half", "error"])
async def test_an_engine_that_dies_in_the_middle(
    claude: AsyncAnthropic, engine: EngineStub, die: Any
) -> None:
    engine.plan = Plan(die=die, die_after=2)
    said: list[Any] = []
    stream = await checked.ask(claude, stream=True)
    with pytest.raises(anthropic.APIStatusError) as caught:
        await read_into(said, stream)
    texts = [event.delta.text for event in said if event.type == "content_block_delta"]
    assert texts == ["word0 ", "word1 "]
    assert caught.value.body["error"]["type"] == "api_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_dies_before_is_tried_elsewhere(
    connect: Connect, gateway_for: Any, engine_with: Any, stream: bool
) -> None:
    dead, alive = await engine_with(die="head"), await engine_with()
    client = await connect(await gateway_for(dead, alive))
    session = {"x-session-id": session_with(dead, alive)}
    got = await checked.ask(client, stream=stream, extra_headers=session)
    assert (await checked.messages(got) if stream else [checked.message(got)])[-1].type.startswith(
        "message"
    )
    assert dead.requests


async def test_failures_have_their_classes(
    connect: Connect, gateway_for: Any, engine: EngineStub
) -> None:
    keys = KeySources(plain=("hl-one",))
    gateway = await gateway_for(
        engine, limits={"concurrency": 1, "queue": 0}, settings={"keys": keys}
    )
    client, stranger = await connect(gateway, "hl-one"), await connect(gateway, "hl-two")
    with pytest.raises(anthropic.AuthenticationError) as strange:
        await checked.ask(stranger)
    assert strange.value.type == "authentication_error"
    with pytest.raises(anthropic.NotFoundError, match="wishes") as unknown:
        await checked.ask(client, model="wishs")
    assert unknown.value.type == "not_found_error"
    assert unknown.value.request_id
    engine.plan = Plan(hang="head")
    waiting = asyncio.create_task(checked.ask(client))
    await engine.until(lambda seen: seen.open)
    with pytest.raises(anthropic.RateLimitError) as busy:
        await checked.ask(client)
    assert busy.value.response.headers["retry-after"]
    waiting.cancel()
    await engine.until(lambda seen: seen.aborted)
    engine.plan = Plan(status=500, body=b"oops", kind="text/plain")
    with pytest.raises(anthropic.InternalServerError):
        await checked.ask(client)


async def test_an_engine_that_cannot_be_retold_is_told_of_whenever_it_is_seen(
    connect: Connect, gateway_for: Any, engine_with: Any
) -> None:
    """Most events are retold where they arrive, in the engine's connection, not in a task."""
    first, again = called('{"a":', "1}")
    back = streamed({"content": "x"}, first, *called("{}", number=1), again)
    engine = await engine_with(**back, split=50)
    client = await connect(await gateway_for(engine))
    with pytest.raises(anthropic.APIStatusError, match="went back to a tool call"):
        await checked.messages(await checked.ask(client, stream=True))
    await engine.until(lambda seen: not seen.open)
