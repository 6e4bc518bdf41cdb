"""Token usage of an answer as its engine reports it: for rates, metrics, log and spans."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Usage(NamedTuple):
    """Tokens of a prompt and of its answer."""

    prompt: int
    completion: int


class _Tokens(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0


class _Answer(msgspec.Struct):
    usage: _Tokens | None = None


_answer = msgspec.json.Decoder(_Answer)


def of_answer(body: bytes) -> Usage | None:
    """The usage in a whole answer, or in the data of one event."""
    try:
        found = _answer.decode(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if found is None else Usage(found.prompt_tokens, found.completion_tokens or 0)


def of_events(events: bytes) -> Usage | None:
    """The last usage told in these events."""
    at = events.rfind(b'"usage":{')
    if at < 0:
        return None
    start = events.rfind(b"data:", 0, at)
    return of_answer(events[start + len(b"data:") :].partition(b"\n")[0])
