"""Conversations of either surface as the messages of a chat."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serve.gateway.errors import BadRequestError
from serve.gateway.fields import read
from serve.gateway.surfaces import messages, responses

IMAGE: Any = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
AS_CHAT: Any = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
CALL: Any = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def of_messages(*turns: Any) -> Any:
    body = json.dumps({"model": "m", "messages": turns}).encode()
    return json.loads(bytes(messages.translate(body, read(body)).fields["messages"]))


def of_responses(*items: Any) -> Any:
    body = json.dumps({"model": "m", "input": items}).encode()
    return json.loads(bytes(responses.translate(body, read(body)).fields["messages"]))


def test_what_tools_answered_comes_first_and_their_images_after() -> None:
    answered = {"type": "tool_result", "tool_use_id": "c", "content": [IMAGE]}
    assert of_messages(
        {"role": "user", "content": [{"type": "text", "text": "and?"}, answered]}
    ) == [
        {"role": "tool", "tool_call_id": "c", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "and?"}, AS_CHAT]},
    ]


def test_an_answer_of_a_tool_alone_is_no_turn_of_the_user() -> None:
    answered = {"type": "tool_result", "tool_use_id": "c", "content": "1", "is_error": True}
    said = of_messages({"role": "user", "content": [answered, answered]})
    assert [turn["role"] for turn in said] == ["tool", "tool"]


def test_what_only_anthropic_can_read_is_left_out() -> None:
    hidden = {"type": "redacted_thinking", "data": "x"}
    calls = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    assert of_messages({"role": "assistant", "content": [hidden, calls]}) == [
        {"role": "assistant", "content": None, "tool_calls": [CALL]}
    ]


def test_a_document_of_text_is_text() -> None:
    document = {"type": "document", "source": {"type": "text", "data": "read me"}}
    assert of_messages({"role": "user", "content": [document]}) == [
        {"role": "user", "content": "read me"}
    ]


@pytest.mark.parametrize("source", [None, {"type": "file", "file_id": "f"}, {"type": "base64"}])
def test_an_image_from_nowhere(source: Any) -> None:
    with pytest.raises(BadRequestError) as caught:
        of_messages({"role": "user", "content": [{"type": "image", "source": source}]})
    assert caught.value.param == "messages[0].content[0].source"


def test_a_system_message_in_the_middle_stays_where_it_is() -> None:
    said = of_messages(
        {"role": "user", "content": "a"},
        {"role": "system", "content": [{"type": "text", "text": "b"}]},
    )
    assert said[1] == {"role": "system", "content": "b"}


def thought(text: str) -> Any:
    return {"type": "reasoning", "id": "rs", "summary": [], "content": [part(text)]}


def part(text: str) -> Any:
    return {"type": "reasoning_text", "text": text}


def called(number: str) -> Any:
    return {"type": "function_call", "call_id": number, "name": "f", "arguments": "{}"}


def test_items_of_one_turn_are_one_message() -> None:
    said = of_responses(
        {"role": "user", "content": "a"},
        thought("hm"),
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        called("c"),
        called("c"),
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "1"}],
        },
        thought("so"),
        called("c"),
        {"role": "developer", "content": "z"},
    )
    assert said == [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": "b",
            "reasoning_content": "hm",
            "tool_calls": [CALL, CALL],
        },
        {"role": "tool", "tool_call_id": "c", "content": "1"},
        {"role": "assistant", "content": None, "reasoning_content": "so", "tool_calls": [CALL]},
        {"role": "developer", "content": "z"},
    ]


def test_a_new_thought_is_a_new_turn() -> None:
    said = of_responses(called("c"), thought("again"), called("c"))
    assert [turn.get("reasoning_content") for turn in said] == [None, "again"]


def test_only_text_can_be_the_answer_of_a_tool() -> None:
    picture = {"type": "input_image", "image_url": "https://x/y.png"}
    with pytest.raises(BadRequestError) as caught:
        of_responses({"type": "function_call_output", "call_id": "c", "output": [picture]})
    assert caught.value.param == "input[0].output[0]"


def test_tools_that_are_not_allowed_are_left_out() -> None:
    tools = [{"type": "function", "name": name, "parameters": {}} for name in "fgh"]
    allowed = [{"type": "function", "name": "g"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    asked = {"model": "m", "input": "a", "tools": tools, "tool_choice": choice}
    body = json.dumps(asked).encode()
    fields = responses.translate(body, read(body)).fields
    assert [tool["function"]["name"] for tool in json.loads(bytes(fields["tools"]))] == ["g"]
    assert json.loads(bytes(fields["tool_choice"])) == "required"
