"""However an engine's bytes are cut, a client gets whole events, in order, with an honest end."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.gateway.errors import EngineDroppedError, EngineFailedError
from serve.gateway.stream import DONE, LONGEST_EVENT, EventStream, ending


def event(text: str, finish: str | None = None, ends: str = "\n\n") -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}{ends}".encode()


USAGE = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'
ERROR = b'data: {"error":{"message":"CUDA out of memory"}}\n\n'
TOKENS = event("春") + event('眠 "error" [DONE]') + b": a comment\n\n" + event("", "stop")


def run(pieces: list[bytes]) -> tuple[bytes, EventStream, list[bytes]]:
    stream, passed = EventStream("wishes"), []
    for piece in pieces:
        if stream.over():
            break
        passed.append(stream.feed(piece))
    if not stream.over():
        passed.append(stream.end())
    return b"".join(passed), stream, passed


@pytest.mark.parametrize("ends", ["\n\n", "\r\n\r\n"])
def test_every_cut_gives_the_same_whole_events(ends: str) -> None:
    whole = (TOKENS + DONE).replace(b"\n\n", ends.encode())
    for at in range(len(whole) + 1):
        bytes_passed, stream, pieces = run([whole[:at], whole[at:]])
        assert bytes_passed == whole
        assert stream.done
        assert all(piece.endswith(ends.encode()) for piece in pieces if piece)


@given(st.lists(st.integers(0, 400), max_size=12))
def test_many_cuts_give_the_same_bytes(cuts: list[int]) -> None:
    whole = TOKENS + USAGE + DONE
    edges = [0, *sorted(min(c, len(whole)) for c in cuts), len(whole)]
    passed, stream, _ = run([whole[a:b] for a, b in itertools.pairwise(edges)])
    assert (passed, stream.done, stream.failure) == (whole, True, None)


@pytest.mark.parametrize("ends", ["\n\n", "\r\n\r\n"])
def test_an_error_event_is_seen_at_every_cut_and_does_not_pass(ends: str) -> None:
    whole = (event("春") + ERROR + event("x") + DONE).replace(b"\n\n", ends.encode())
    for at in range(len(whole) + 1):
        passed, stream, _ = run([whole[:at], whole[at:]])
        assert passed == event("春", ends=ends)
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
    _, stream, _ = run([event("春"), said])
    assert stream.failure is not None
    assert "boom" in str(stream.failure)


def test_words_that_look_like_an_end_or_an_error_pass() -> None:
    talk = event("data: [DONE]") + event('{"error": 1}') + event("error: x") + DONE
    passed, stream, _ = run([talk])
    assert (passed, stream.failure) == (talk, None)


def test_what_comes_after_the_end_does_not_pass() -> None:
    passed, stream, _ = run([event("春", "stop") + DONE + event("more")])
    assert passed == event("春", "stop") + DONE
    assert stream.done


@pytest.mark.parametrize("last", [event("春", "stop"), event("春", "stop") + USAGE, USAGE])
def test_a_missing_done_is_put_in_where_the_answer_had_finished(last: bytes) -> None:
    passed, stream, _ = run([event("床"), last])
    assert passed == event("床") + last + DONE
    assert stream.failure is None


def test_a_done_without_its_last_line_end_counts() -> None:
    passed, stream, _ = run([event("春"), DONE.rstrip()])
    assert (passed, stream.done) == (event("春") + DONE, True)


@pytest.mark.parametrize("tail", [b"", event("x")[:-9], b"data: {"])
def test_half_an_answer_is_never_a_whole_one(tail: bytes) -> None:
    passed, stream, _ = run([event("春"), tail])
    assert passed == event("春")
    assert isinstance(stream.failure, EngineDroppedError)


def test_broken_events_between_good_ones_pass() -> None:
    broken = event("a") + b"data: {broken\n\n" + b"nonsense\n\n" + event("b", "stop") + DONE
    assert run([broken])[0] == broken


def test_an_event_without_an_end_is_not_kept_for_ever() -> None:
    stream = EventStream("wishes")
    stream.feed(b"data: " + b"x" * (LONGEST_EVENT + 1))
    assert isinstance(stream.failure, EngineFailedError)


def test_the_ending_of_a_failed_stream_is_an_error_event_and_done() -> None:
    first, second, rest = ending(EngineFailedError("It broke.")).split(b"\n\n")
    assert json.loads(first.removeprefix(b"data: "))["error"]["message"] == "It broke."
    assert (second, rest) == (b"data: [DONE]", b"")
