"""Server-sent events on their way through: cut at event borders, watched, otherwise untouched.

A client is only ever sent whole events, so that whatever happens to an engine, an error event can
follow. Events are not parsed as they pass: two searches over their bytes say whether one of them
is the end or an error, and only then are they looked at one by one.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from serve.gateway.engine_error import from_event
from serve.gateway.errors import EngineDroppedError, EngineFailedError, GatewayError, envelope

DONE = b"data: [DONE]\n\n"

LONGEST_EVENT = 4 << 20
"""An engine that sends so much without ending an event is not speaking the protocol."""

_BORDER = re.compile(rb"\n\r?\n")


class EventStream:
    """One engine's stream of events. After `done` or `failure` nothing more is to be read."""

    def __init__(self, assistant: str) -> None:
        self._assistant = assistant
        self._rest = b""
        self._last = b""
        self.done = False
        self.failure: GatewayError | None = None

    def over(self) -> bool:
        return self.done or self.failure is not None

    def feed(self, chunk: bytes) -> bytes:
        """The events that are complete with this chunk; those after the end are left out."""
        if self._rest:
            chunk = self._rest + chunk
        if chunk.endswith(b"\n\n"):
            events, self._rest = chunk, b""
        else:
            events, self._rest = _split(chunk)
            if len(self._rest) > LONGEST_EVENT:
                self.failure = EngineFailedError(
                    f"The engine of '{self._assistant}' sent an event without an end."
                )
        if b"[DONE]" in events or b'"error"' in events or b"error: " in events:
            events = self._look(events)
        if events:
            self._last = events
        return events

    def end(self) -> bytes:
        """What is still to be sent when the engine's body has ended, in order or not.

        An engine that told why it finished but not `[DONE]` is helped out; from one that did not,
        half an answer must not look like a whole one: then `failure` is set.
        """
        data = _data(self._rest)
        rest = self.feed(b"\n\n") if data == b"[DONE]" or _object(data) is not None else b""
        if self.over():
            return rest
        if _finished(self._last):
            self.done = True
            return rest + DONE
        self.failure = EngineDroppedError(
            f"The engine of '{self._assistant}' ended its answer before it was complete."
        )
        return rest

    def _look(self, events: bytes) -> bytes:
        """Pass events one by one up to the end or an error."""
        start = 0
        for border in _BORDER.finditer(events):
            data = _data(events[start : border.start()])
            if data == b"[DONE]":
                self.done = True
                return events[: border.end()]
            if _is_error(data):
                self.failure = from_event(self._assistant, data)
                return events[:start]
            start = border.end()
        return events


def ending(error: GatewayError) -> bytes:
    """The last events of a stream that failed after it began."""
    return b"data: " + envelope(error) + b"\n\n" + DONE


def _split(chunk: bytes) -> tuple[bytes, bytes]:
    """Whole events, and the beginning of one that is not whole yet."""
    at = chunk.rfind(b"\n\n") + 2
    carriage = chunk.rfind(b"\n\r\n") + 3
    at = max(at if at > 1 else 0, carriage if carriage > 2 else 0)
    return chunk[:at], chunk[at:]


def _data(event: bytes) -> bytes:
    """The data of an event, or the object after an `error:` field, which some engines send."""
    lines = []
    for line in event.splitlines():
        field, _, value = line.partition(b":")
        if field in (b"data", b"error"):
            lines.append(value.removeprefix(b" "))
            if field == b"error":
                return b'{"error":' + lines[-1] + b"}"
    return b"\n".join(lines)


def _is_error(data: bytes) -> bool:
    found = _object(data)
    return found is not None and (found.get("error") is not None or found.get("object") == "error")


def _finished(events: bytes) -> bool:
    """Whether the last of these events says why the answer ended, or comes after one that did."""
    whole = [event for event in _BORDER.split(events) if _data(event)]
    found = _object(_data(whole[-1])) if whole else None
    if found is None:
        return False
    choices = found.get("choices") or []
    if not choices:
        return found.get("usage") is not None
    return any(isinstance(c, dict) and c.get("finish_reason") for c in choices)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
