"""Streams that a stop string ends: what is sent, what is counted, when the engine may rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.gateway.answers.answer import folded
from serve.gateway.answers.asked import Asked
from serve.gateway.answers.event import data_of
from serve.gateway.answers.stop import Stops
from serve.gateway.answers.stream import EventStream
from tests.gateway.openai_schema import CHAT, CHAT_CHUNK, TEXT, TEXT_CHUNK, problems
from tests.gateway.test_stop import first_complete, pieces_of

LETTERS = 'ab春"\\'


def chat_event(text: str, end: str | None = None, index: int = 0, **more: Any) -> bytes:
    """As LMDeploy writes it."""
    choice: dict[str, Any] = {"index": index, "delta": {"role": "assistant", "content": text}}
    return _event("chat.completion.chunk", {**choice, **more}, end)


def text_event(text: str, end: str | None = None, index: int = 0, **more: Any) -> bytes:
    return _event("text_completion", {"index": index, "text": text, **more}, end)


def _event(kind: str, choice: dict[str, Any], end: str | None) -> bytes:
    choice = {**choice, "finish_reason": end} if end else choice
    head = {"id": "c-1", "object": kind, "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(head).encode() + b"\n\n"


def count(prompt: int, completion: int) -> bytes:
    tokens = {"prompt_tokens": prompt, "completion_tokens": completion}
    return b"data: " + json.dumps({"choices": [], "usage": tokens}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def run(events: list[bytes], asked: Asked) -> tuple[list[Any], EventStream, int]:
    """What was sent, and how many events of the engine were taken in."""
    stream, sent, taken = EventStream(asked), b"", 0
    for event in events:
        if stream.over:
            break
        sent += stream.feed(event)
        taken += 1
    parts = sent.split(b"\n\n")
    assert parts[-2:] == [b"data: [DONE]", b""]
    chunks = [json.loads(data_of(part)) for part in parts[:-2]]
    kind = CHAT_CHUNK if asked.chat else TEXT_CHUNK
    assert [problem for chunk in chunks for problem in problems(kind, chunk)] == []
    return chunks, stream, taken


def choices_of(chunks: list[Any], index: int = 0) -> list[Any]:
    return [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]


def text_of(chunks: list[Any], index: int = 0) -> str:
    own = choices_of(chunks, index)
    return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for c in own)


def ends_of(chunks: list[Any], index: int = 0) -> list[str]:
    return [c["finish_reason"] for c in choices_of(chunks, index) if c["finish_reason"]]


@given(
    st.text(LETTERS, max_size=30),
    st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(0, 30), max_size=30),
    st.booleans(),
)
def test_any_text_in_any_events_ends_at_the_first_stop(
    text: str, words: list[str], at: list[int], chat: bool
) -> None:
    event = chat_event if chat else text_event
    pieces = pieces_of(text, at)
    events = [*map(event, pieces), event("", "length"), count(7, len(pieces)), DONE]
    asked = Asked("wishes", chat=chat, stops=Stops(words), usage=True)
    chunks, stream, taken = run(events, asked)
    cut = first_complete(text, words)
    assert text_of(chunks) == text[:cut]
    assert ends_of(chunks) == ["length" if cut is None else "stop"]
    assert stream.cut == (cut is not None)
    assert (taken == len(events)) == (cut is None)
    assert chunks[-1]["usage"]["completion_tokens"] == stream.usage.completion


def test_an_end_is_told_by_itself_after_the_text_before_it() -> None:
    asked = Asked("wishes", stops=Stops(["。。"]))
    chunks, _, taken = run([*map(chat_event, ["春", "眠。", "。不", "觉"]), DONE], asked)
    assert taken == 3
    assert [c["delta"].get("content") for c in choices_of(chunks)] == ["春", "眠", None]
    assert ends_of(chunks) == ["stop"]
    chunks, _, _ = run([chat_event("春。"), chat_event("", "stop"), count(1, 1), DONE], asked)
    assert [c["delta"].get("content") for c in choices_of(chunks)] == ["春", "。", None]


def test_what_was_held_back_is_sent_even_if_the_engine_never_said_why_it_ended() -> None:
    asked = Asked("wishes", stops=Stops(["。。"]))
    assert text_of(run([chat_event("春"), chat_event("。"), DONE], asked)[0]) == "春。"


def test_each_choice_has_an_end_of_its_own() -> None:
    asked = Asked("wishes", stops=Stops(["!"]), n=2, usage=True)
    talk = [chat_event("a"), chat_event("b", index=1), chat_event("!"), chat_event("never")]
    more = [chat_event("c", index=1), chat_event("x"), chat_event("!y", index=1), chat_event("z")]
    chunks, stream, taken = run([*talk, *more, DONE], asked)
    assert (text_of(chunks), text_of(chunks, 1)) == ("a", "bc")
    assert (ends_of(chunks), ends_of(chunks, 1)) == (["stop"], ["stop"])
    assert (taken, stream.cut) == (7, True)


def test_one_choice_is_ended_by_a_stop_and_the_other_by_the_engine() -> None:
    asked = Asked("wishes", stops=Stops(["!"]), n=2)
    talk = [chat_event("a!"), chat_event("b", index=1), chat_event("more")]
    chunks, stream, taken = run([*talk, chat_event("", "length", index=1), DONE], asked)
    assert (ends_of(chunks), ends_of(chunks, 1)) == (["stop"], ["length"])
    assert (taken, stream.cut) == (4, True)


def test_several_prompts_whose_answers_lmdeploy_all_calls_the_first() -> None:
    asked = Asked("wishes", chat=False, stops=Stops(["!"]), prompts=2)
    talk = [text_event("a!"), text_event("x"), text_event("", "length"), text_event("b")]
    chunks, _, _ = run([*talk, text_event("c"), text_event("", "length"), DONE], asked)
    assert (text_of(chunks), text_of(chunks, 1)) == ("a", "bc")
    assert (ends_of(chunks), ends_of(chunks, 1)) == (["stop"], ["length"])


def test_calls_and_thoughts_pass_beside_what_is_held_back() -> None:
    asked = Asked("wishes", stops=Stops(["<end>"]))
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    deltas = [
        {"reasoning_content": "<end> hm"},
        {"content": "a<e"},
        {"content": "", "tool_calls": [call]},
        {"content": "n", "reasoning_content": "more"},
    ]
    events = [chat_event("", delta=delta) for delta in deltas]
    chunks, _, _ = run([*events, chat_event("", "tool_calls"), DONE], asked)
    said = [c["delta"] for c in choices_of(chunks)]
    assert [d["tool_calls"] for d in said if "tool_calls" in d] == [[call]]
    assert "".join(d.get("reasoning_content", "") for d in said) == "<end> hmmore"
    assert (text_of(chunks), ends_of(chunks)) == ("a<en", ["tool_calls"])


def chance(token: str) -> dict[str, Any]:
    return {"token": token, "logprob": -1.0, "bytes": None, "top_logprobs": []}


def test_log_probabilities_go_with_their_text() -> None:
    asked = Asked("wishes", stops=Stops(["bcd"]))

    def sent(*tokens: str) -> tuple[str, list[str]]:
        events = [chat_event(t, logprobs={"content": [chance(t)]}) for t in tokens]
        chunks, _, _ = run([*events, chat_event("", "stop"), count(1, 1), DONE], asked)
        found = [c["logprobs"]["content"] for c in choices_of(chunks) if c["logprobs"]]
        return text_of(chunks), [item["token"] for part in found for item in part]

    assert sent("a", "b", "c", "e") == ("abce", ["a", "b", "c", "e"])
    assert sent("a", "b", "cd", "e") == ("a", ["a"])
    assert sent("a", "b") == ("ab", ["a", "b"])


def test_tokens_are_counted_where_the_engine_was_stopped_before_it_could() -> None:
    asked = Asked("wishes", stops=Stops(["!"]), usage=True, prompt_bytes=40)
    chunks, stream, _ = run([chat_event("a"), chat_event("b"), chat_event("!c"), DONE], asked)
    assert stream.usage == (10, 3)
    assert chunks[-1]["usage"] == {
        "estimated": True,
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
    }


def test_what_looks_like_the_text_of_an_event_and_is_not_is_not_read() -> None:
    def noted(note: str) -> bytes:
        told = chat_event("a").replace(b'"content"', b'"c\\u006fntent"')
        return told.replace(b'{"id"', b'{"note": {"text": "%b"}, "id"' % note.encode())

    asked = Asked("wishes", stops=Stops(["!"]))
    chunks, stream, _ = run([*map(noted, "xyz!w"), chat_event("", "length"), DONE], asked)
    assert (text_of(chunks), ends_of(chunks)) == ("aaaaa", ["length"])
    assert not stream.cut


def test_a_count_of_one_choice_is_not_taken_for_that_of_all() -> None:
    asked = Asked("wishes", stops=Stops(["!"]), n=2)
    counted = b'"usage": {"prompt_tokens": 3, "completion_tokens": 1}, "choices"'
    ended = chat_event("", "stop", index=1).replace(b'"choices"', counted)
    talk = [chat_event("b", index=1), chat_event("a"), chat_event("c"), ended, chat_event("!")]
    _, stream, _ = run([*talk, DONE], asked)
    assert stream.usage == (3, 4)


@pytest.mark.parametrize("chat", [True, False])
def test_a_whole_answer_is_put_together_from_a_stream(chat: bool) -> None:
    event = chat_event if chat else text_event
    asked = Asked("wishes", chat=chat, stops=Stops(["!"]), usage=True, folded=True)
    stream = EventStream(asked)
    sent = stream.feed(event("春") + event("眠") + event("", "length") + count(3, 2) + DONE)
    found = json.loads(folded(sent, asked))
    assert problems(CHAT if chat else TEXT, found) == []
    choice = found["choices"][0]
    assert (choice["message"]["content"] if chat else choice["text"]) == "春眠"
    assert choice["finish_reason"] == "length"
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert found["id"] == "c-1"


def test_calls_and_thoughts_of_a_stream_become_whole() -> None:
    asked = Asked("wishes", stops=Stops(["!"]), usage=True, folded=True)

    def piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        return {"index": index, "function": {"arguments": arguments, **more}}

    again = {"id": "c0", "type": "function"}  # which some engines say with every piece
    deltas = [
        {"role": "assistant", "reasoning_content": "h"},
        {"reasoning_content": "m", "tool_calls": [{**piece(0, "{", name="f"), **again}]},
        {"tool_calls": [{**piece(0, "}"), **again}, {**piece(1, "[]", name="g"), "id": "c1"}]},
    ]
    events = [chat_event("", delta=d, logprobs={"content": [chance("t")]}) for d in deltas]
    sent = EventStream(asked).feed(b"".join(events) + chat_event("", "tool_calls") + DONE)
    found = json.loads(folded(sent, asked))
    assert problems(CHAT, found) == []
    message = found["choices"][0]["message"]
    assert message["reasoning_content"] == "hm"
    calls = [(c["id"], c["type"], *c["function"].values()) for c in message["tool_calls"]]
    assert calls == [("c0", "function", "{}", "f"), ("c1", "function", "[]", "g")]
    assert len(found["choices"][0]["logprobs"]["content"]) == 3
