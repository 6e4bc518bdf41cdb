"""Parses a chat completion, streamed or whole, into one sequence of pieces (text, call, end …)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from serve.gateway.answers.event import data_of, object_of
from serve.gateway.answers.fixes import Json

Kind = Literal["text", "reasoning", "refusal"]

_BORDER = re.compile(rb"\r?\n\r?\n")
_SPOKEN: tuple[tuple[str, Kind], ...] = (
    ("reasoning_content", "reasoning"),
    ("content", "text"),
    ("refusal", "refusal"),
)


class Said(NamedTuple):
    """Some text, and the log probabilities of its tokens where they were asked for."""

    kind: Kind
    text: str
    chances: list[Json]


class Called(NamedTuple):
    """A tool is called, or more of its arguments came."""

    number: int
    id: str | None
    name: str | None
    text: str


class Ended(NamedTuple):
    """Why it ended, and the stop string that it ended at, where that is known."""

    reason: str
    word: str | None = None


class Counted(NamedTuple):
    usage: Json


class Alive(NamedTuple):
    """A comment, by which an engine says that it still works."""


class Done(NamedTuple):
    """All is said."""


Piece = Said | Called | Ended | Counted | Alive | Done


class _Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: str | None = None
    refusal: None = None
    reasoning_content: None = None
    tool_calls: None = None


class _Choice(msgspec.Struct, gc=False):
    index: Literal[0]
    delta: _Delta
    finish_reason: None = None
    logprobs: None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: tuple[_Choice]
    usage: None = None


_chunk = msgspec.json.Decoder(_Chunk)


def only_text(events: bytes) -> str | None:
    """The text of what is one event that says nothing else, as most do; then it need not be taken
    to pieces, which costs five times as much."""
    if not events.startswith(b"data: {") or events.find(b"\n") != len(events) - 2:
        return None
    try:
        return _chunk.decode(events[6:-2]).choices[0].delta.content
    except msgspec.DecodeError:
        return None


def of_events(events: bytes) -> Iterator[Piece]:
    """What some whole events of a stream say, in the shape the gateway gives them."""
    for event in _BORDER.split(events):
        if not event:
            continue
        data = data_of(event)
        if data == b"[DONE]":
            yield Done()
        elif not data:
            yield Alive()
        elif (found := object_of(data)) is not None:
            yield from _of_object(found, "delta")


def of_answer(body: bytes) -> Iterator[Piece]:
    """What a whole answer says."""
    yield from _of_object(msgspec.json.decode(body), "message")


def _of_object(found: Json, spoken: str) -> Iterator[Piece]:
    for choice in found["choices"]:
        if choice["index"] == 0:  # neither surface has more than one answer
            yield from _of_choice(choice, choice[spoken])
    if usage := found.get("usage"):
        yield Counted(usage)


def _of_choice(choice: Json, said: Json) -> Iterator[Piece]:
    chances = (choice.get("logprobs") or {}).get("content") or []
    for name, kind in _SPOKEN:
        text = said.get(name)
        of_it = chances if kind == "text" else []
        if (text and isinstance(text, str)) or of_it:
            yield Said(kind, text or "", of_it)
    for place, call in enumerate(said.get("tool_calls") or ()):
        yield _called(call, place)
    if end := choice.get("finish_reason"):
        word = choice.get("stop_reason")
        yield Ended(end, word if isinstance(word, str) else None)


def _called(call: Json, place: int) -> Called:
    function: dict[str, Any] = call.get("function") or {}
    return Called(
        call.get("index", place),
        call.get("id"),
        function.get("name"),
        function.get("arguments") or "",
    )
