"""OpenAI's Responses as its official client sees them, before a stand-in engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.engine_stub import EngineStub, Plan
from tests.gateway.surfaces import checked, spoken

Connect = Callable[..., Any]


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "How it is",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


async def test_a_whole_answer(client: AsyncOpenAI, engine: EngineStub) -> None:
    answer = checked.response(
        await client.responses.create(
            model="wishes",
            input="hi",
            max_output_tokens=9,
            temperature=0.5,
            metadata={"a": "b"},
            extra_body={"top_k": 3},
        )
    )
    assert answer.output_text == "word0 word1 word2 word3 word4 "
    assert (answer.status, answer.model, answer.temperature) == ("completed", "wishes", 0.5)
    assert answer.metadata == {"a": "b"}
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5)
    seen = engine.requests[0]
    assert seen.path == "/v1/chat/completions"
    assert seen.json["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]
    assert (seen.json["max_tokens"], seen.json["top_k"]) == (9, 3)
    assert "metadata" not in seen.json


async def test_a_stream(client: AsyncOpenAI, engine: EngineStub) -> None:
    engine.plan = Plan(tokens=2)
    events = await checked.responses(
        await client.responses.create(model="wishes", input="hi", stream=True)
    )
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(e.delta for e in events if e.type.endswith(".delta")) == "word0 word1 "
    last = events[-1].response
    assert (last.output_text, last.id) == ("word0 word1 ", events[0].response.id)
    assert len({event.item_id for event in events if hasattr(event, "item_id")}) == 1
    assert last.output[0].id == events[2].item.id


async def test_the_helper_of_the_client_puts_a_stream_together(
    client: AsyncOpenAI, engine: EngineStub
) -> None:
    thinks = {"reasoning_content": "hm"}
    engine.plan = Plan(**spoken.streamed(thinks, {"content": "好"}, *spoken.called("{}")))
    async with client.responses.stream(model="wishes", input="hi", tools=[WEATHER]) as stream:
        final = await stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    assert final.output_text == "好"


async def test_calls_and_thoughts_in_a_stream(client: AsyncOpenAI, engine: EngineStub) -> None:
    engine.plan = Plan(
        **spoken.streamed(
            {"reasoning_content": "let me "},
            {"reasoning_content": "see"},
            *spoken.called("", '{"city":', ' "北京"}'),
            *spoken.called("{}", number=1, name="time"),
            finish="tool_calls",
        )
    )
    stream = await client.responses.create(
        model="wishes", input="weather?", tools=[WEATHER], tool_choice="required", stream=True
    )
    events = await checked.responses(stream)
    last = events[-1].response
    thought, first, second = last.output
    assert thought.content[0].text == "let me see"
    assert (first.name, first.arguments, first.call_id) == ("weather", spoken.ARGUMENTS, "call_0")
    assert (second.name, second.arguments, second.call_id) == ("time", "{}", "call_1")
    assert [event.output_index for event in events if event.type.endswith("added")] == [0, 0, 1, 2]
    assert last.usage.input_tokens_details.cached_tokens == 12
    assert last.usage.output_tokens_details.reasoning_tokens == 3
    asked = engine.requests[0].json
    assert asked["tool_choice"] == "required"
    assert asked["tools"][0]["function"]["name"] == "weather"


async def test_a_call_in_a_whole_answer_and_the_answer_to_it(
    client: AsyncOpenAI, engine: EngineStub
) -> None:
    engine.plan = Plan(
        **spoken.told(tool_calls=[spoken.call()], content=None, finish="tool_calls"), times=1
    )
    conversation: list[Any] = [{"role": "user", "content": "weather?"}]
    first = checked.response(
        await client.responses.create(model="wishes", input=conversation, tools=[WEATHER])
    )
    call: Any = first.output[0]
    conversation += first.to_dict()["output"]
    conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "sun"})
    await client.responses.create(model="wishes", input=conversation, tools=[WEATHER])
    assert engine.requests[1].json["messages"][1:] == [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [spoken.call()]},
        {"role": "tool", "tool_call_id": "call_0", "content": "sun"},
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_cut_at_its_length_is_incomplete(
    client: AsyncOpenAI, engine: EngineStub, stream: bool
) -> None:
    engine.plan = Plan(finish="length")
    got: Any = await client.responses.create(model="wishes", input="hi", stream=stream)
    answer = (await checked.responses(got))[-1].response if stream else checked.response(got)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_strings_hold_here_too(
    client_of: Any, gateway_for: Any, engine: EngineStub, stream: bool
) -> None:
    client = await client_of(await gateway_for(engine, sampling={"stop": ["rd2"]}))
    got = await client.responses.create(model="wishes", input="hi", stream=stream)
    answer = (await checked.responses(got))[-1].response if stream else checked.response(got)
    assert (answer.output_text, answer.status) == ("word0 word1 wo", "completed")


async def test_log_probabilities(client: AsyncOpenAI, engine: EngineStub) -> None:
    chance = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    answer = spoken.whole(content="a").replace(
        b'"finish_reason"', b'"logprobs": {"content": [%s]}, "finish_reason"' % _json(chance)
    )
    engine.plan = Plan(raw=True, body=answer)
    got = await client.responses.create(
        model="wishes", input="hi", include=["message.output_text.logprobs"], top_logprobs=2
    )
    part: Any = checked.response(got).output[0]
    assert part.content[0].logprobs[0].logprob == -0.1
    asked = engine.requests[0].json
    assert (asked["logprobs"], asked["top_logprobs"]) == (True, 2)


def _json(found: Any) -> bytes:
    return httpx.Request("POST", "http://x", json=found).content


async def test_images_and_schemas_go_on(client: AsyncOpenAI, engine: EngineStub) -> None:
    picture: Any = {
        "type": "input_image",
        "image_url": "data:image/png;base64,AA==",
        "detail": "low",
    }
    text: Any = {"type": "input_text", "text": "what?"}
    shape: Any = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    await client.responses.create(
        model="wishes",
        input=[{"role": "user", "content": [text, picture]}],
        text={"format": shape},
        reasoning={"effort": "low"},
    )
    asked = engine.requests[0].json
    assert asked["messages"][1]["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": picture["image_url"], "detail": "low"}},
    ]
    inner = {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert asked["response_format"] == {"type": "json_schema", "json_schema": inner}
    assert asked["reasoning_effort"] == "low"


async def test_what_asks_for_nothing_passes_and_dropping_is_allowed(
    client_of: Any, gateway_for: Any, engine: EngineStub
) -> None:
    client = await client_of(await gateway_for(engine, unsupported="drop"))
    await client.responses.create(
        model="wishes", input="hi", store=True, background=False, truncation="auto", tools=[]
    )
    assert not {"store", "background", "truncation", "tools"} & set(engine.requests[0].json)


async def test_it_tells_what_the_assistant_made_of_the_request(
    client_of: Any, gateway_for: Any, engine: EngineStub
) -> None:
    sampling = {"temperature": 0.3, "top_p": 0.4}
    client = await client_of(await gateway_for(engine, aliases=["tianji"], sampling=sampling))
    answer = await client.responses.create(model="tianji", input="hi", top_p=0.9)
    assert (answer.model, answer.temperature, answer.top_p) == ("wishes", 0.3, 0.9)


async def test_rules_of_the_assistant(client_of: Any, gateway_for: Any, engine: EngineStub) -> None:
    declared: dict[str, Any] = {"system": "mine", "client_system": "refuse", "history": "none"}
    client = await client_of(await gateway_for(engine, **declared, limits={"max_tokens": 8}))
    with pytest.raises(openai.BadRequestError, match="its own system prompt") as caught:
        await client.responses.create(model="wishes", input="hi", instructions="yours")
    assert caught.value.param == "input"
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    await client.responses.create(model="wishes", input=turns, max_output_tokens=99)
    asked = engine.requests[0].json
    assert [turn["content"] for turn in asked["messages"]] == ["mine", "user"]
    assert asked["max_tokens"] == 8
