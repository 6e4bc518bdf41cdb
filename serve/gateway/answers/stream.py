"""An engine's event stream on its way to the client: whole events, repaired, properly ended.

A client is only ever sent whole events, so that whatever happens to an engine, an error event can
follow. Most events differ from the one before in nothing but their text; those are known by sight
(`event.Likeness`) and never decoded. The others are, and go through `chunks`.
"""

from __future__ import annotations

import re

from serve.gateway.answers import shape
from serve.gateway.answers.asked import Asked
from serve.gateway.answers.chunks import Chunks
from serve.gateway.answers.engine_error import from_event, said_nothing
from serve.gateway.answers.event import (
    DONE,
    Likeness,
    data_of,
    encoded,
    marked,
    object_of,
    where_text_is,
)
from serve.gateway.answers.fixes import Json
from serve.gateway.answers.usage import Usage
from serve.gateway.errors import EngineDroppedError, EngineFailedError, GatewayError, envelope

LONGEST_EVENT = 4 << 20
"""An engine that sends so much without ending an event is not speaking the protocol."""

MOST_LESSONS = 8
"""How often what events have in common is learnt in vain before it is given up; in an answer with
log probabilities no two are alike."""

_BORDER = re.compile(rb"\n\r?\n")


class EventStream:
    """One engine's stream of events. When it is `over`, nothing more is to be read."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._chunks = Chunks(asked)
        self._rest = b""
        self._like: Likeness | None = None
        self._lessons = 0
        self._doubtful = b""
        """An end for want of room without a word before it, until its count of tokens has come."""
        self.over = False
        self.failure: GatewayError | None = None
        """Why it is over, where it did not come to its end."""

    @property
    def done(self) -> bool:
        """Whether it has come to its end."""
        return self.over and self.failure is None

    @property
    def cut(self) -> bool:
        """Whether it was ended by a stop string: then the engine still works, for nobody."""
        return self._chunks.cut

    @property
    def id(self) -> str | None:
        """What the answer is called, once it has begun."""
        face = self._chunks.face
        return None if face is None else face.head["id"]

    @property
    def ends(self) -> tuple[str, ...]:
        return self._chunks.ends

    @property
    def usage(self) -> Usage:
        return self._chunks.usage

    def feed(self, chunk: bytes) -> bytes:
        """The events that are complete with this chunk; those after the end are left out."""
        if self._rest:
            chunk = self._rest + chunk
            self._rest = b""
        elif self._like is not None and (text := self._like.text(chunk)) is not None:
            return self._alike(self._like, chunk, text)
        passed, start = [], 0
        for border in _BORDER.finditer(chunk):
            passed.append(self._event(chunk[start : border.end()]))
            start = border.end()
            if self.over:
                return b"".join(passed)
        self._rest = chunk[start:]
        if len(self._rest) > LONGEST_EVENT:
            self._fail(self._failed("sent an event without an end"))
        return b"".join(passed)

    def end(self) -> bytes:
        """What is still to be sent when the engine's body has ended, in order or not.

        An engine that told why it finished but not `[DONE]` is helped out; from one that did not,
        half an answer must not look like a whole one: then `failure` is set.
        """
        data = data_of(self._rest)
        rest = self.feed(b"\n\n") if data == b"[DONE]" or object_of(data) is not None else b""
        if self.over:
            return rest
        if self._chunks.ended:
            return rest + self._finish()
        what = f"The engine of '{self._asked.assistant}' ended its answer before it was complete."
        self._fail(EngineDroppedError(what))
        return rest

    def _event(self, event: bytes) -> bytes:
        if self._like is not None and (text := self._like.text(event)) is not None:
            return self._alike(self._like, event, text)
        data = data_of(event)
        if not data:
            return event  # a comment, by which an engine says that it still lives
        if data == b"[DONE]":
            return self._finish()
        found = object_of(data)
        if found is None:
            return b""  # no client could read it either
        if found.get("error") is not None or found.get("object") == "error":
            self._fail(from_event(self._asked.assistant, data))
            return b""
        return self._chunk(found, event) if shape.is_whole(found) else b""

    def _alike(self, like: Likeness, event: bytes, text: str) -> bytes:
        chunks = self._chunks
        self._lessons = 0
        if self._asked.stops is None:
            chunks.generated += 1
            return event if like.same else like.said(event)
        sent = chunks.read(like.index, text)
        said = b"" if not sent else like.said(event) if sent == text else like.saying(sent)
        if chunks.stopped(like.index):
            self._like = None
            said += chunks.ending(like.index)
            if chunks.cut:
                said += self._finish()
        return said

    def _chunk(self, found: Json, event: bytes) -> bytes:
        """An event that had to be decoded."""
        if (word := shape.failed(found)) is not None:
            self._fail(self._failed(f"gave its answer up ({word})"))
            return b""
        chunks = self._chunks
        span = self._text_in(event, found)
        opened = len(chunks.opened)
        changed = chunks.take(found)
        if not found["choices"]:
            return b""
        if chunks.ended:
            self._like = None
        elif span is not None and opened == len(chunks.opened):
            said = encoded(marked(found) or found) if changed else None
            self._like = Likeness(event, span, said=said, index=found["choices"][0]["index"])
        doubtful = not chunks.generated and _is_full(found)
        if self._asked.stops is None:
            said = encoded(found) if changed else event
        else:
            said = b"".join(map(encoded, chunks.scanned(found)))
        if doubtful:
            self._doubtful = said
            return b""
        return said + self._finish() if chunks.cut else said

    def _text_in(self, event: bytes, found: Json) -> tuple[int, int] | None:
        """Where its text is, if others may be like it: one that opens a choice is like no other."""
        if not self._chunks.opened or self._lessons >= MOST_LESSONS:
            return None
        self._lessons += 1
        return where_text_is(event, found)

    def _finish(self) -> bytes:
        chunks = self._chunks
        if self._doubtful and chunks.empty:
            self._fail(said_nothing(self._asked.assistant))
            return b""
        self.over = True
        return self._doubtful + chunks.closing() + DONE

    def _fail(self, error: GatewayError) -> None:
        self.over, self.failure = True, error

    def _failed(self, what: str) -> EngineFailedError:
        return EngineFailedError(f"The engine of '{self._asked.assistant}' {what}.")


def ending(error: GatewayError) -> bytes:
    """The last events of a stream that failed after it began."""
    return b"data: " + envelope(error) + b"\n\n" + DONE


def _is_full(found: Json) -> bool:
    """Whether it is the end of an answer for want of room: then there should be an answer."""
    return all(choice["finish_reason"] == "length" for choice in found["choices"])
