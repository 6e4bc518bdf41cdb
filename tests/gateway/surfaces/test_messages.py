"""Anthropic's Messages as its official client sees them, before a stand-in engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from tests.engine_stub import EngineStub, Plan
from tests.gateway.surfaces import checked, spoken

Connect = Callable[..., Any]


WEATHER: Any = {
    "name": "weather",
    "description": "How it is",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def test_a_whole_answer(claude: AsyncAnthropic, engine: EngineStub) -> None:
    got = checked.message(
        await checked.ask(
            claude,
            max_tokens=9,
            metadata={"user_id": "u"},
            extra_body={"temperature": 0.5, "top_k": 3},
        )
    )
    assert [block.text for block in got.content if block.type == "text"] == [
        "word0 word1 word2 word3 word4 "
    ]
    assert (got.model, got.stop_reason, got.stop_sequence) == ("wishes", "end_turn", None)
    assert (got.usage.input_tokens, got.usage.output_tokens) == (3, 5)
    seen = engine.requests[0]
    assert seen.path == "/v1/chat/completions"
    assert seen.json["messages"] == [{"role": "system", "content": "be kind"}, *checked.USER]
    wanted = {"max_tokens": 9, "temperature": 0.5, "top_k": 3, "user": "u"}
    assert {name: seen.json[name] for name in wanted} == wanted
    assert "metadata" not in seen.json


async def test_a_stream(claude: AsyncAnthropic, engine: EngineStub) -> None:
    engine.plan = Plan(**spoken.streamed({"content": "wo"}, {"content": "rd"}))
    events = await checked.messages(await checked.ask(claude, stream=True))
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(event.delta.text for event in events[2:4]) == "word"
    assert events[5].delta.stop_reason == "end_turn"
    usage = events[5].usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (8, 12, 7)


async def test_the_helper_of_the_client_puts_a_stream_together(
    claude: AsyncAnthropic, engine: EngineStub
) -> None:
    engine.plan = Plan(
        **spoken.streamed(
            {"reasoning_content": "let me "},
            {"reasoning_content": "see"},
            {"content": "好"},
            *spoken.called("", '{"city":', ' "北京"}'),
            *spoken.called("{}", number=1, name="time"),
            finish="tool_calls",
        )
    )
    asked: Any = {
        "model": "wishes",
        "max_tokens": 100,
        "messages": checked.USER,
        "tools": [WEATHER],
    }
    async with claude.messages.stream(**asked) as stream:
        final: Any = await stream.get_final_message()
    thought, said, first, second = final.content
    assert (thought.thinking, said.text) == ("let me see", "好")
    assert (first.id, first.name, first.input) == ("call_0", "weather", {"city": "北京"})
    assert (second.id, second.name, second.input) == ("call_1", "time", {})
    assert final.stop_reason == "tool_use"
    assert final.usage.output_tokens == 7
    asked = engine.requests[0].json["tools"][0]["function"]
    assert asked["parameters"] == WEATHER["input_schema"]


async def test_a_call_in_a_whole_answer_and_the_answer_to_it(
    claude: AsyncAnthropic, engine: EngineStub
) -> None:
    calling = spoken.told(
        tool_calls=[spoken.call()], content="ok", reasoning_content="hm", finish="tool_calls"
    )
    engine.plan = Plan(**calling, times=1)
    first = checked.message(await checked.ask(claude, tools=[WEATHER], tool_choice={"type": "any"}))
    assert first.stop_reason == "tool_use"
    assert engine.requests[0].json["tool_choice"] == "required"
    result = [
        {
            "type": "tool_result",
            "tool_use_id": "call_0",
            "content": [{"type": "text", "text": "☀"}],
        },
        {"type": "text", "text": "so?"},
    ]
    turns = [
        *checked.USER,
        {"role": "assistant", "content": first.to_dict()["content"]},
        {"role": "user", "content": result},
    ]
    await checked.ask(claude, messages=turns, tools=[WEATHER])
    said = engine.requests[1].json["messages"][2:]
    arguments = said[0]["tool_calls"][0]["function"].pop("arguments")
    assert arguments.replace(" ", "") == spoken.ARGUMENTS.replace(" ", "")
    assert said == [
        {
            "role": "assistant",
            "content": "ok",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "weather"}}],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "☀"},
        {"role": "user", "content": "so?"},
    ]


async def test_arguments_that_are_none(claude: AsyncAnthropic, engine: EngineStub) -> None:
    broken = spoken.call('{"city": "北')
    engine.plan = Plan(**spoken.told(tool_calls=[broken], finish="tool_calls"))
    with pytest.raises(anthropic.InternalServerError, match="no JSON object"):
        await checked.ask(claude)
    engine.plan = Plan(**spoken.told(tool_calls=[broken], finish="length"))
    got: Any = checked.message(await checked.ask(claude))
    assert (got.stop_reason, got.content[0].input) == ("max_tokens", {})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_sequence_is_named(
    connect: Connect, gateway_for: Any, engine: EngineStub, stream: bool
) -> None:
    client = await connect(await gateway_for(engine, sampling={"stop": ["rd4"]}))
    got = await checked.ask(client, stop_sequences=["rd2", "x", "y", "z", "5"], stream=stream)
    if stream:
        events = await checked.messages(got)
        text = "".join(e.delta.text for e in events if e.type == "content_block_delta")
        ended = events[-2].delta
    else:
        text, ended = checked.message(got).content[0].text, got
    assert text == "word0 word1 wo"
    assert (ended.stop_reason, ended.stop_sequence) == ("stop_sequence", "rd2")
    own = checked.message(await checked.ask(client, stop_sequences=["never"]))
    assert (own.stop_reason, own.stop_sequence) == ("end_turn", None)
    assert "stop" not in engine.requests[0].json


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_tokens"), ("content_filter", "refusal")]
)
async def test_other_ends(
    claude: AsyncAnthropic, engine: EngineStub, finish: str, reason: str
) -> None:
    engine.plan = Plan(finish=finish)
    assert checked.message(await checked.ask(claude)).stop_reason == reason


async def test_images_thinking_and_schemas_go_on(
    claude: AsyncAnthropic, engine: EngineStub
) -> None:
    picture = {"type": "base64", "media_type": "image/png", "data": "AA=="}
    shape = {"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "low"}
    await checked.ask(
        claude,
        messages=[
            {"role": "user", "content": [{"type": "image", "source": picture}]},
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm", "signature": ""}],
            },
        ],
        system=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config=shape,
    )
    asked = engine.requests[0].json
    assert asked["messages"] == [
        {"role": "system", "content": "a\n\nb"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
        },
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
    ]
    assert asked["chat_template_kwargs"] == {"enable_thinking": True}
    assert asked["reasoning_effort"] == "low"
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}


async def test_tokens_are_counted_by_the_engine(claude: AsyncAnthropic, engine: EngineStub) -> None:
    engine.plan = Plan(raw=True, body=b'{"input_tokens": 11, "more": 1}')
    asked: Any = {"model": "wishes", "messages": checked.USER, "tools": [WEATHER]}
    counted = await claude.messages.count_tokens(**asked)
    assert counted.to_dict() == {"input_tokens": 11}
    seen = engine.requests[0]
    assert seen.path == "/v1/messages/count_tokens"
    assert seen.headers["anthropic-version"]
    wanted = {"model": "wishes", "messages": checked.USER, "tools": [WEATHER], "system": "be kind"}
    assert seen.json == wanted


async def test_an_engine_that_cannot_count_is_not_blamed(
    claude: AsyncAnthropic, engine: EngineStub
) -> None:
    engine.plan = Plan(status=404, body=b'{"detail":"Not Found"}', times=3)
    for _ in range(3):
        with pytest.raises(anthropic.BadRequestError, match="does not do this"):
            await claude.messages.count_tokens(model="wishes", messages=checked.USER)
    assert checked.message(await checked.ask(claude)).stop_reason == "end_turn"
    assert len(engine.requests) == 4


async def test_the_history_rule_counts_too(
    connect: Connect, gateway_for: Any, engine: EngineStub
) -> None:
    client = await connect(await gateway_for(engine, history="none", client_system="append"))
    engine.plan = Plan(raw=True, body=b'{"input_tokens": 1}')
    answered = {"type": "tool_result", "tool_use_id": "c", "content": "1"}
    turns: Any = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}],
        },
        {"role": "user", "content": [answered]},
    ]
    await client.messages.count_tokens(model="wishes", messages=turns, system="s")
    asked = engine.requests[0].json
    assert [turn["role"] for turn in asked["messages"]] == ["user", "assistant", "user"]
    assert asked["messages"][0]["content"] == "c"
    assert asked["system"] == "s"
