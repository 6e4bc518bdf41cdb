"""One answer told in pieces and as a whole is the same answer, on either surface."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.gateway.answers.asked import Asked
from serve.gateway.answers.fold import fold
from serve.gateway.answers.stream import EventStream
from serve.gateway.errors import EngineDroppedError, EngineFailedError
from serve.gateway.surfaces.messages.serializer import MessageSerializer
from serve.gateway.surfaces.responses.serializer import ResponseSerializer
from serve.gateway.surfaces.retelling import Retelling, Retold
from tests.gateway.surfaces import spoken

Speak = Callable[[], Retelling]


def message() -> Retelling:
    return Retelling(MessageSerializer("wishes", ["。"]))


def response() -> Retelling:
    return Retelling(ResponseSerializer({"model": "wishes"}))


SURFACES = [pytest.param(message, id="messages"), pytest.param(response, id="responses")]
KINDS = {"thinking": 0, "reasoning": 0, "text": 1, "message": 1, "tool_use": 2, "function_call": 2}
ENDS = ["stop", "length", "tool_calls"]

text = st.text('a"\\\n\r 好🙂', max_size=4)
deltas = st.lists(
    st.one_of(
        text.map(lambda found: [{"content": found}]),
        text.map(lambda found: [{"reasoning_content": found}]),
        st.just([{}]),
    ),
    max_size=6,
)


def told(stream: bytes) -> list[dict[str, Any]]:
    """The data of events, each under its own name."""
    found = []
    for event in stream.removesuffix(b"\n\n").split(b"\n\n"):
        if event.startswith(b":"):
            continue
        name, data = event.split(b"\n")
        found.append(json.loads(data.removeprefix(b"data: ")))
        assert name.decode() == f"event: {found[-1]['type']}"
    return found


def put_together(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer that Anthropic's events make."""
    answer: dict[str, Any] = events[0]["message"]
    open_blocks: set[int] = set()
    for event in events[1:]:
        if event["type"] == "content_block_start":
            assert event["index"] == len(answer["content"])
            assert not open_blocks
            open_blocks.add(event["index"])
            answer["content"].append({**event["content_block"], "json": ""})
        elif event["type"] == "content_block_delta":
            assert open_blocks == {event["index"]}
            [(name, piece)] = [item for item in event["delta"].items() if item[0] != "type"]
            name = "json" if name == "partial_json" else name
            answer["content"][event["index"]][name] += piece
        elif event["type"] == "content_block_stop":
            open_blocks.remove(event["index"])
        elif event["type"] == "message_delta":
            answer |= {**event["delta"], "usage": event["usage"]}
    assert not open_blocks
    assert events[-1]["type"] == "message_stop"
    for block in answer["content"]:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["json"] or "{}")
        del block["json"]
    return answer


def alike(answer: dict[str, Any]) -> Any:
    """Without what is new each time."""
    ids = {"id", "created_at", "completed_at"}
    if isinstance(answer, dict):
        return {name: alike(value) for name, value in answer.items() if name not in ids}
    return [alike(item) for item in answer] if isinstance(answer, list) else answer


@given(said=deltas, calls=st.integers(0, 2), end=st.sampled_from(ENDS), size=st.integers(1, 400))
def test_in_pieces_as_a_whole(
    said: list[list[dict[str, Any]]], calls: int, end: str, size: int
) -> None:
    for number in range(calls):
        said.append(spoken.called("", '{"a"', ":1}", number=number))
    stream = spoken.events(*(delta for group in said for delta in group), finish=end)
    for speak in (message, response):
        asked = Asked("wishes", usage=True)
        events = Retold(EventStream(asked), speak())
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        found = told(b"".join(map(events.feed, pieces)))
        assert events.over
        assert events.failure is None
        final = put_together(found) if speak is message else found[-1]["response"]
        assert alike(final) == alike(_at_once(speak(), stream, final))


def _at_once(retelling: Retelling, stream: bytes, final: dict[str, Any]) -> dict[str, Any]:
    """The same as a whole; a chat completion has one place for all text and one for all thought, so
    only answers that said each in one go can be compared."""
    parts = final.get("content", final.get("output", []))
    kinds = [KINDS[part["type"]] for part in parts]
    if kinds != sorted(kinds) or kinds.count(0) > 1 or kinds.count(1) > 1:
        return final
    events = EventStream(Asked("wishes", usage=True)).feed(stream)
    answer: dict[str, Any] = json.loads(retelling.whole(msgspec.json.encode(fold(events))))
    return answer


@pytest.mark.parametrize("speak", SURFACES)
def test_a_comment_says_that_the_engine_lives(speak: Speak) -> None:
    retelling = speak()
    assert told(retelling.feed(b": wait\n\n"))[0]["type"] in ("message_start", "response.created")
    again = retelling.feed(b": wait\r\n\r\n")
    assert again == (b'event: ping\ndata: {"type":"ping"}\n\n' if speak is message else again)
    assert again


@pytest.mark.parametrize("speak", SURFACES)
def test_a_call_that_is_taken_up_again_cannot_be_told(speak: Speak) -> None:
    mixed = [*spoken.called("{"), *spoken.called("{}", number=1), *spoken.called("}")]
    stream = Retold(EventStream(Asked("wishes", usage=True)), speak())
    stream.feed(spoken.events(*mixed))
    assert stream.over
    assert isinstance(stream.failure, EngineFailedError)
    assert "tool call" in str(stream.failure)


@pytest.mark.parametrize("speak", SURFACES)
def test_what_was_said_before_a_failure_is_not_lost(speak: Speak) -> None:
    retelling = speak()
    retelling.feed(b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n')
    last = told(retelling.ending(EngineDroppedError("It died.")))
    assert last[0]["type"] == "error"
    if speak is response:
        assert last[1]["response"]["output"][0]["content"][0]["text"] == "hi"
        assert [event["sequence_number"] for event in last] == [5, 6]
    else:
        assert last == [{"type": "error", "error": {"type": "api_error", "message": "It died."}}]


@pytest.mark.parametrize("speak", SURFACES)
def test_an_answer_of_nothing(speak: Speak) -> None:
    found = told(speak().feed(spoken.events()))
    last = found[-1] if speak is response else put_together(found)
    assert last.get("content", last.get("response", {}).get("output")) == []
