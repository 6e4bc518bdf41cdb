"""Whatever engines send, what goes on is as OpenAI publishes it; else it is untouched."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.gateway.answers import shape
from serve.gateway.answers.answer import whole
from serve.gateway.answers.asked import Asked
from serve.gateway.answers.event import data_of
from serve.gateway.answers.fixes import apply
from serve.gateway.answers.shape import Face
from serve.gateway.answers.stream import EventStream
from serve.gateway.errors import GatewayError
from tests.gateway.openai_schema import CHAT, CHAT_CHUNK, TEXT, TEXT_CHUNK, problems

SAID = Path(__file__).with_name("said")
"""Answers of real engines, byte for byte: LMDeploy 0.18.0 and xllamacpp 2026.10.11549."""

ANYTHING = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text("ab", max_size=2)
)


def said(pattern: str) -> list[Any]:
    return [pytest.param(path, id=path.name) for path in sorted(SAID.glob(pattern))]


def asked_of(path: Path, **more: Any) -> Asked:
    n = 2 if "n2" in path.name else 1
    prompts = 2 if "text2" in path.name else 1
    return Asked("wishes", chat="-chat" in path.name, n=n, prompts=prompts, **more)


def objects(events: bytes) -> list[Any]:
    parts = events.split(b"\n\n")
    assert parts[-2:] == [b"data: [DONE]", b""]
    return [json.loads(data_of(part)) for part in parts[:-2]]


def without_fields(found: Any, names: set[str]) -> Any:
    if isinstance(found, dict):
        return {k: without_fields(v, names) for k, v in found.items() if k not in names}
    return [without_fields(v, names) for v in found] if isinstance(found, list) else found


@pytest.mark.parametrize("path", said("*-chat*.json") + said("*-text*.json"))
def test_whole_answers_of_real_engines(path: Path) -> None:
    asked = asked_of(path)
    body = path.read_bytes()
    sent, usage = whole(body, asked)
    found, came = json.loads(sent), json.loads(body)
    assert problems(CHAT if asked.chat else TEXT, found) == []
    assert usage == (came["usage"]["prompt_tokens"], came["usage"]["completion_tokens"])
    assert set(came) - set(found) <= {"service_tier", "system_fingerprint"}
    assert found.get("timings") == came.get("timings")
    assert whole(sent, asked)[0] == sent  # in shape it needs nothing more


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("path", said("*-chat*.sse") + said("*-text*.sse"))
def test_streams_of_real_engines(path: Path, usage: bool) -> None:
    asked = asked_of(path, usage=usage)
    stream = EventStream(asked)
    chunks = objects(stream.feed(path.read_bytes()))
    kind = CHAT_CHUNK if asked.chat else TEXT_CHUNK
    assert [problem for chunk in chunks for problem in problems(kind, chunk)] == []
    assert len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}) == 1
    assert chunks[0]["id"] != "-1"
    counts = [c["usage"] for c in chunks if c.get("usage")]
    assert bool(counts) is usage
    if usage:
        assert chunks[-1]["choices"] == []
        assert (counts[0]["prompt_tokens"], counts[0]["completion_tokens"]) == stream.usage
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert {c["index"] for c in choices} == set(range(asked.choices))
    for index in range(asked.choices):
        own = [choice for choice in choices if choice["index"] == index]
        assert [bool(c["finish_reason"]) for c in own] == [False] * (len(own) - 1) + [True]
        if asked.chat:
            assert [c["delta"].get("role") for c in own] == ["assistant"] + [None] * (len(own) - 1)


@pytest.mark.parametrize("path", said("*-chat.sse") + said("*-text.sse") + said("*-n2.sse"))
def test_events_known_by_sight_are_as_if_they_had_been_decoded(path: Path) -> None:
    asked = asked_of(path)
    known, decoded = EventStream(asked), EventStream(asked)
    decoded._lessons = 1 << 30
    one, other = known.feed(path.read_bytes()), decoded.feed(path.read_bytes())
    ids = {"id"} if "-text" in path.name else set()
    assert without_fields(objects(one), ids) == without_fields(objects(other), ids)
    assert known._like is None
    assert decoded._like is None


@given(
    st.lists(st.integers(0, 4000), max_size=30),
    st.sampled_from([p.values[0] for p in said("*-chat*.sse") + said("llamacpp-text*.sse")]),
)
def test_a_stream_in_any_pieces_is_the_same_stream(cuts: list[int], path: Path) -> None:
    body = path.read_bytes()
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    stream = EventStream(asked_of(path, usage=True))
    pieces = [body[a:b] for a, b in itertools.pairwise(edges)]
    sent = b"".join(stream.feed(piece) for piece in pieces if not stream.over)
    at_once = EventStream(asked_of(path, usage=True)).feed(body)
    assert objects(sent) == objects(at_once)
    assert stream.done


def test_every_byte_border_of_a_real_stream() -> None:
    path = SAID / "lmdeploy-chat.sse"
    body = path.read_bytes()
    at_once = EventStream(asked_of(path)).feed(body)
    for at in range(len(body) + 1):
        stream = EventStream(asked_of(path))
        assert stream.feed(body[:at]) + (b"" if stream.done else stream.feed(body[at:])) == at_once


CALL = st.dictionaries(
    st.sampled_from(["index", "id", "type", "function"]),
    ANYTHING
    | st.dictionaries(st.sampled_from(["name", "arguments"]), ANYTHING | st.just({"a": 1})),
)
SPOKEN = st.dictionaries(
    st.sampled_from(["role", "content", "refusal", "tool_calls", "reasoning_content"]),
    ANYTHING | st.lists(CALL | ANYTHING, max_size=2) | st.just([{"type": "text", "text": "x"}]),
)
TOKEN = st.fixed_dictionaries(
    {},
    optional={
        "token": ANYTHING,
        "logprob": ANYTHING,
        "bytes": st.none() | st.lists(st.integers(0, 255), max_size=2),
        "top_logprobs": st.none()
        | st.lists(st.fixed_dictionaries({"token": ANYTHING}), max_size=2),
    },
)
CHANCES = st.dictionaries(
    st.sampled_from(["content", "refusal"]), st.none() | st.lists(TOKEN, max_size=2)
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "index": ANYTHING,
        "text": ANYTHING,
        "delta": SPOKEN | ANYTHING,
        "message": SPOKEN | ANYTHING,
        "finish_reason": ANYTHING | st.sampled_from(["stop", "eos", "length", "tool_calls"]),
        "logprobs": st.none() | st.booleans() | CHANCES,
    },
)
COUNT = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens"]), ANYTHING
) | st.dictionaries(
    st.sampled_from(["prompt_tokens_details", "completion_tokens_details"]),
    st.none() | st.just({"cached_tokens": None, "reasoning_tokens": 3}),
)
ANSWER = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=3)},
    optional={
        "id": ANYTHING,
        "created": ANYTHING,
        "model": ANYTHING,
        "object": ANYTHING,
        "usage": COUNT | ANYTHING,
        "system_fingerprint": ANYTHING,
        "x-own": ANYTHING,
    },
)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("others", [{}, {"top_logprobs": None}, {"top_logprobs": 3}])
def test_log_probabilities_of_which_no_others_are_told(chat: bool, others: Any) -> None:
    told = {"content": [{"token": "春", "logprob": -1, **others}]}
    found: Any = {"choices": [{"index": 0, "delta": {"content": "春"}, "logprobs": told}]}
    face = Face(found, model="wishes", chat=chat, stream=True, usage=False)
    apply(shape.chunk(found, face, {}))
    assert problems(CHAT_CHUNK if chat else TEXT_CHUNK, found) == []
    chances = found["choices"][0]["logprobs"]
    assert (chances["content"][0] if chat else chances)["top_logprobs"] == ([] if chat else [{}])


@given(ANSWER, st.booleans(), st.booleans())
def test_any_mangled_answer_comes_into_shape(found: Any, chat: bool, stream: bool) -> None:
    before = json.dumps(found.get("x-own"))
    face = Face(found, model="wishes", chat=chat, stream=stream, usage=False)
    apply(shape.chunk(found, face, {}) if stream else shape.answer(found, face))
    kind = (CHAT_CHUNK if stream else CHAT) if chat else (TEXT_CHUNK if stream else TEXT)
    assert problems(kind, found) == []
    assert json.dumps(found.get("x-own")) == before
    again = shape.chunk(found, face, {}) if stream else shape.answer(found, face)
    assert not apply(again)


@given(st.recursive(ANYTHING, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=9))
def test_whatever_an_engine_answers_is_an_answer_or_an_error(body: Any) -> None:
    for found in (body, {"choices": [body]}, {"choices": body}):
        try:
            sent, _ = whole(json.dumps(found).encode(), Asked("wishes"))
        except GatewayError:
            continue
        assert problems(CHAT, json.loads(sent)) == []


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"error_code": 10402, "text": "died"}, 502, "gave no answer: died"),
        ({"choices": [{"finish_reason": "error"}]}, 502, "gave its answer up"),
        (
            {
                "choices": [{"finish_reason": "length", "message": {"content": ""}}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 0},
            },
            400,
            "leaves no room",
        ),
    ],
)
def test_what_comes_under_200_and_is_no_answer(body: Any, status: int, sentence: str) -> None:
    with pytest.raises(GatewayError, match=sentence) as caught:
        whole(json.dumps(body).encode(), Asked("wishes"))
    assert caught.value.status == status
