"""Server-sent events as bytes: parsing them, and recognising most without decoding their JSON.

Of the events of one stream only the text differs. So the first that was read is remembered as what
stands before its text and what stands after it, each as the engine sends it and as it must be sent
on; a later event that begins and ends like it needs only its text to be looked at.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from serve.gateway.answers.fixes import Json

DONE = b"data: [DONE]\n\n"

MARK = "\ue000text\ue000"
"""Stands in the place of a text; nobody writes these characters."""

_ENCODED_MARK = msgspec.json.encode(MARK)
_TEXT = re.compile(rb'"(?:content|text)"\s*:\s*("(?:[^"\\]|\\.)*")')
_string = msgspec.json.Decoder(str).decode
_any = msgspec.json.Decoder()


def data_of(event: bytes) -> bytes:
    """The data of an event, or the object after an `error:` field, which some engines send."""
    if event.startswith(b"data: ") and (line := event[6:].rstrip(b"\r\n")).find(b"\n") < 0:
        return line
    lines = []
    for line in event.splitlines():
        field, _, value = line.partition(b":")
        if field in (b"data", b"error"):
            lines.append(value.removeprefix(b" "))
            if field == b"error":
                return b'{"error":' + lines[-1] + b"}"
    return b"\n".join(lines)


def object_of(data: bytes) -> Json | None:
    try:
        found = _any.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def encoded(found: Json) -> bytes:
    return b"data: " + msgspec.json.encode(found) + b"\n\n"


class Likeness:
    """What the events of one stream have in common, in the engine's words and in ours."""

    __slots__ = (
        "_after", "_before", "_beginning", "_end", "_middle", "_said_after", "_said_before",
        "index", "same",
    )  # fmt: skip

    def __init__(
        self, event: bytes, span: tuple[int, int], *, said: bytes | None, index: int
    ) -> None:
        """`said` is the event as it is sent on, marked; None if that is as it came."""
        start, stop = span[0], span[1] - len(event)
        self._before, self._after = event[:start], event[stop:]
        self._beginning, self._middle, self._end = (
            slice(start),
            slice(start, stop),
            slice(stop, None),
        )
        self.same = said is None
        """Whether events like this are sent on as they come."""
        self._said_before, self._said_after = self._before, self._after
        if said is not None:
            self._said_before, _, self._said_after = said.partition(_ENCODED_MARK)
        self.index = index

    def text(self, event: bytes) -> str | None:
        """The text of an event that is like this; None where it is not."""
        # Slices that are made once cost half of what startswith and endswith do.
        if event[self._beginning] != self._before or event[self._end] != self._after:
            return None
        try:
            return _string(event[self._middle])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # there is more in it than a text, or less

    def said(self, event: bytes) -> bytes:
        """An event that is like this, as it is to be sent on."""
        return event if self.same else self._said_before + event[self._middle] + self._said_after

    def saying(self, text: str) -> bytes:
        """An event like this with another text."""
        return self._said_before + msgspec.json.encode(text) + self._said_after


def where_text_is(event: bytes, found: Json) -> tuple[int, int] | None:
    """Where in an event its one text stands, proven by putting another in its place."""
    places = list(_TEXT.finditer(event))
    if len(places) != 1:
        return None
    start, stop = places[0].span(1)
    other = object_of(data_of(event[:start] + _ENCODED_MARK + event[stop:]))
    return (start, stop) if other is not None and marked(found) == other else None


def marked(found: Json) -> Json | None:
    """The same object with the mark for its text; None where it is not just one text."""
    choices = found["choices"]
    if len(choices) != 1 or choices[0].get("finish_reason") or choices[0].get("logprobs"):
        return None
    choice: dict[str, Any] = dict(choices[0])
    delta = choice.get("delta")
    if isinstance(delta, dict):
        if not isinstance(delta.get("content"), str) or delta.get("tool_calls"):
            return None
        choice["delta"] = {**delta, "content": MARK}
    elif isinstance(choice.get("text"), str):
        choice["text"] = MARK
    else:
        return None
    return {**found, "choices": [choice]}
