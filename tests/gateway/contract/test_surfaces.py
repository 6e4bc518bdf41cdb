"""The translated surfaces before each real engine, in the types of their official clients."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.gateway.contract.test_contract import USER

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

OPENAI: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ANTHROPIC: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
ASKED: Any = {"model": "tianji", "max_tokens": 16, "messages": USER}
LONG: Any = [{"role": "user", "content": "长" * 3000}]


async def chat(client: AsyncOpenAI, **given: Any) -> tuple[str, Any]:
    """What the same request is answered on the surface that is not translated."""
    answer = await client.chat.completions.create(model="wishes", messages=USER, **given)
    return answer.choices[0].message.content or "", answer.usage


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_the_chat_completion(client: AsyncOpenAI, stream: bool) -> None:
    asked: Any = {"model": "tianji", "input": USER, "max_output_tokens": 8, "stream": stream}
    got: Any = await client.responses.create(**asked)
    if stream:
        events = [OPENAI.validate_python(event.to_dict()) async for event in got]
        deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        got = events[-1].response
        assert "".join(deltas) == got.output_text
    answer = Response.model_validate(got.to_dict())
    text, usage = await chat(client, max_tokens=8)
    assert (answer.output_text, answer.model, answer.status) == (text, "wishes", "incomplete")
    assert answer.usage is not None
    told = (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens)
    assert told == (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_message_is_the_chat_completion(
    client: AsyncOpenAI, claude: Any, stream: bool
) -> None:
    text, usage = await chat(client, max_tokens=16)
    got = await claude.messages.create(**ASKED, stream=stream)
    if stream:
        events = [ANTHROPIC.validate_python(event.to_dict()) async for event in got]
        deltas = [e.delta.text for e in events if e.type == "content_block_delta"]
        assert "".join(deltas) == text
        told = events[-2].usage
    else:
        answer: Any = Message.model_validate(got.to_dict())
        assert (answer.content[0].text, answer.model) == (text, "wishes")
        told = answer.usage
    assert told.input_tokens + told.cache_read_input_tokens == usage.prompt_tokens
    assert told.output_tokens == usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_the_stop_sequence_that_was_met(
    client: AsyncOpenAI, claude: Any, stream: bool
) -> None:
    text, _ = await chat(client)
    stop = text[3:6]
    asked = {**ASKED, "stop_sequences": ["never", stop]}
    if stream:
        async with claude.messages.stream(**asked) as coming:
            got = await coming.get_final_message()
    else:
        got = await claude.messages.create(**asked)
    assert got.content[0].text == text.partition(stop)[0]
    assert (got.stop_reason, got.stop_sequence) == ("stop_sequence", stop)


async def test_tokens_of_a_prompt(claude: Any) -> None:
    counted = await claude.messages.count_tokens(model="wishes", messages=USER)
    more = await claude.messages.count_tokens(model="wishes", messages=USER, system="长" * 20)
    answer = await claude.messages.create(**ASKED)
    whole = answer.usage.input_tokens + answer.usage.cache_read_input_tokens
    assert counted.input_tokens == whole
    assert more.input_tokens > counted.input_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long(client: AsyncOpenAI, claude: Any, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as ours:
        await client.responses.create(model="wishes", input=LONG, stream=stream)
    assert ours.value.code == "context_length_exceeded"
    with pytest.raises(anthropic.BadRequestError) as theirs:
        await claude.messages.create(**{**ASKED, "messages": LONG}, stream=stream)
    assert theirs.value.type == "invalid_request_error"
