"""However an engine's bytes are cut, a client gets whole events, in order, with an honest end."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.gateway.answers.asked import Asked
from serve.gateway.answers.event import DONE
from serve.gateway.answers.stream import LONGEST_EVENT, EventStream, ending
from serve.gateway.errors import EngineDroppedError, EngineFailedError, EngineRefusedError

HEAD = {"id": "chatcmpl-x", "object": "chat.completion.chunk", "created": 1, "model": "wishes"}


def event(text: str, finish: str | None = None, ends: str = "\n\n") -> bytes:
    """An event as OpenAI has it: nothing about it has to be changed."""
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
    return f"data: {json.dumps({**HEAD, 'choices': [choice]}, ensure_ascii=False)}{ends}".encode()


ROLE = event("").replace(b'"delta": {', b'"delta": {"role": "assistant", ')
USAGE = (
    b'data: {"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"wishes",'
    b'"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
)
ERROR = b'data: {"error":{"message":"CUDA out of memory"}}\n\n'
TOKENS = ROLE + event("春") + event('眠 "error" [DONE]') + b": a comment\n\n" + event("\\n", "stop")
ASKED = Asked("wishes")


def run(pieces: list[bytes], asked: Asked = ASKED) -> tuple[bytes, EventStream, list[bytes]]:
    stream, passed = EventStream(asked), []
    for piece in pieces:
        if stream.over:
            break
        passed.append(stream.feed(piece))
    if not stream.over:
        passed.append(stream.end())
    return b"".join(passed), stream, passed


@pytest.mark.parametrize("ends", ["\n\n", "\r\n\r\n"])
def test_every_cut_gives_the_same_whole_events(ends: str) -> None:
    events = TOKENS.replace(b"\n\n", ends.encode())
    whole = events + DONE.replace(b"\n\n", ends.encode())
    for at in range(len(whole) + 1):
        bytes_passed, stream, pieces = run([whole[:at], whole[at:]])
        assert bytes_passed == events + DONE
        assert stream.done
        assert all(piece.endswith((ends.encode(), b"\n\n")) for piece in pieces if piece)


@given(st.lists(st.integers(0, 900), max_size=12))
def test_many_cuts_give_the_same_bytes(cuts: list[int]) -> None:
    whole = TOKENS + USAGE + DONE
    edges = [0, *sorted(min(c, len(whole)) for c in cuts), len(whole)]
    passed, stream, _ = run([whole[a:b] for a, b in itertools.pairwise(edges)])
    assert (passed, stream.done, stream.failure) == (TOKENS + DONE, True, None)
    assert stream.usage == (1, 2)


@pytest.mark.parametrize("ends", ["\n\n", "\r\n\r\n"])
def test_an_error_event_is_seen_at_every_cut_and_does_not_pass(ends: str) -> None:
    whole = (ROLE + ERROR + event("x") + DONE).replace(b"\n\n", ends.encode())
    for at in range(len(whole) + 1):
        passed, stream, _ = run([whole[:at], whole[at:]])
        assert passed == ROLE.replace(b"\n\n", ends.encode())
        assert isinstance(stream.failure, EngineFailedError)
        assert "CUDA out of memory" in str(stream.failure)


@pytest.mark.parametrize(
    "said",
    [
        b'data: {"message":"boom","type":"x","code":500,"object":"error"}\n\n',
        b'data: {"error":"boom"}\n\n',
        b'error: {"code":500,"message":"boom","type":"server_error"}\n\n',
    ],
)
def test_errors_of_other_shapes_are_understood(said: bytes) -> None:
    _, stream, _ = run([ROLE, said])
    assert stream.failure is not None
    assert "boom" in str(stream.failure)


def test_a_refusal_in_place_of_the_first_event_is_one() -> None:
    said = b'data: {"error":{"message":"exceeds the context size","code":400}}\n\n'
    _, stream, _ = run([said])
    assert isinstance(stream.failure, EngineRefusedError)
    assert (stream.failure.status, stream.failure.code) == (400, "context_length_exceeded")


def test_words_that_look_like_an_end_or_an_error_pass() -> None:
    talk = ROLE + event("data: [DONE]") + event('{"error": 1}') + event("error: x") + DONE
    passed, stream, _ = run([talk])
    assert (passed, stream.failure) == (talk, None)


def test_what_comes_after_the_end_does_not_pass() -> None:
    passed, stream, _ = run([ROLE + event("春", "stop") + DONE + event("more")])
    assert passed == ROLE + event("春", "stop") + DONE
    assert stream.done


@pytest.mark.parametrize("last", [event("春", "stop"), event("春", "stop") + USAGE])
def test_a_missing_done_is_put_in_where_the_answer_had_finished(last: bytes) -> None:
    passed, stream, _ = run([ROLE, last])
    assert passed == ROLE + event("春", "stop") + DONE
    assert stream.failure is None


def test_a_done_without_its_last_line_end_counts() -> None:
    passed, stream, _ = run([ROLE, DONE.rstrip()])
    assert (passed, stream.done) == (ROLE + DONE, True)


@pytest.mark.parametrize("tail", [b"", event("x")[:-9], b"data: {"])
def test_half_an_answer_is_never_a_whole_one(tail: bytes) -> None:
    passed, stream, _ = run([ROLE, tail])
    assert passed == ROLE
    assert isinstance(stream.failure, EngineDroppedError)


def test_events_that_nobody_can_read_are_left_out_between_good_ones() -> None:
    broken = b"data: {broken\n\n" + b"nonsense\n\n" + b"data: null\n\n" + b'data: "\xff"\n\n'
    odd = b'data: {"choices":3}\n\n' + b'data: {"choices":[7]}\n\n' + b"data: {}\n\n"
    good = ROLE + event("b", "stop")
    passed = run([ROLE + broken + odd + event("b", "stop") + DONE])[0]
    assert passed.replace(b"nonsense\n\n", b"") == good + DONE


def test_an_event_without_an_end_is_not_kept_for_ever() -> None:
    stream = EventStream(ASKED)
    stream.feed(b"data: " + b"x" * (LONGEST_EVENT + 1))
    assert isinstance(stream.failure, EngineFailedError)


@pytest.mark.parametrize("word", ["error", "abort", "parse_error"])
def test_an_answer_that_the_engine_gave_up_is_a_failure(word: str) -> None:
    passed, stream, _ = run([ROLE, event("internal error happened", word)])
    assert passed == ROLE
    assert isinstance(stream.failure, EngineFailedError)
    assert word in str(stream.failure)


def test_no_answer_for_want_of_room_is_a_refusal() -> None:
    nothing = USAGE.replace(b'"completion_tokens":2', b'"completion_tokens":0')
    passed, stream, _ = run([event("", "length"), nothing + DONE])
    assert passed == b""
    assert isinstance(stream.failure, EngineRefusedError)
    assert stream.failure.code == "context_length_exceeded"
    assert run([event("", "length"), USAGE + DONE])[0].count(b'"length"') == 1


def test_the_ending_of_a_failed_stream_is_an_error_event_and_done() -> None:
    first, second, rest = ending(EngineFailedError("It broke.")).split(b"\n\n")
    assert json.loads(first.removeprefix(b"data: "))["error"]["message"] == "It broke."
    assert (second, rest) == (b"data: [DONE]", b"")


def test_log_probabilities_of_a_text_say_where_in_all_of_it_they_stand() -> None:
    def told(index: int, *tokens: str) -> bytes:
        chances = [{"token": token, "logprob": -1, "top_logprobs": []} for token in tokens]
        choice = {"index": index, "text": "".join(tokens), "logprobs": {"content": chances}}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    events = [told(0, "春"), told(1, "ab"), told(0, "眠", "不觉"), told(1, "c"), told(0, "晓")]
    sent, _, _ = run([*events, DONE], Asked("wishes", chat=False, n=2))
    found: dict[int, list[int]] = {0: [], 1: []}
    for data in sent.split(b"\n\n")[: len(events)]:
        (choice,) = json.loads(data.removeprefix(b"data: "))["choices"]
        found[choice["index"]] += choice["logprobs"]["text_offset"]
    assert found == {0: [0, 1, 2, 4], 1: [0, 2]}


@pytest.mark.parametrize(("prompts", "n", "prompt"), [(1, 3, 5), (3, 1, 15), (1, 1, 15)])
def test_a_prompt_with_several_answers_is_counted_once(prompts: int, n: int, prompt: int) -> None:
    """llama.cpp counts each answer, and its prompt with it."""
    counted = USAGE.replace(b'"prompt_tokens":1', b'"prompt_tokens":5')
    _, stream, _ = run(
        [ROLE + event("", "stop"), *[counted] * 3, DONE], Asked("w", n=n, prompts=prompts)
    )
    assert stream.usage == (prompt, 6)
