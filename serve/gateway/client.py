"""One client's connection: uvicorn's, which waits for ever, given an end to its patience.

A client has so long for the head of its request, so long for the body, and so long to make room for
an answer it does not read. Who comes too late is told so where something can still be said.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.gateway.errors import TooSlowError, envelope
from serve.gateway.line import EXTENSION, Line
from serve.gateway.upstream.alarm import NEVER, Alarm

HEAD_SECONDS = 15.0
BODY_SECONDS = 60.0
STALLED_SECONDS = 60.0

GATHERED = 1 << 20
"""So much of a body is gathered before the application hears of it; more of it only as it reads."""

CONTINUE = b"HTTP/1.1 100"

HEAD = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n"
)


class HeadFirst:
    """A transport for one answer, whose head it keeps back until there is more: uvicorn writes it
    for itself, and a write of its own costs more than all that is in it."""

    __slots__ = ("_head", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head is None and not data.startswith(CONTINUE):
            self._head = data
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self._transport.write(self._head)
        self._transport.close()


class Client(HttpToolsProtocol):
    """What uvicorn does, in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun = False
        self._line = Line(self._write)
        self._extensions = {EXTENSION: self._line}
        self._reading = Alarm(self.loop, self._too_slow)
        self._writing = Alarm(self.loop, transport.abort)
        self._reading.set(self.loop.time() + HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading.stop()
        self._writing.stop()
        super().connection_lost(exc)
        self._line.left()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]
        self._begun = True
        self._body: list[bytes] = []
        self._size = 0
        self._reading.set(self.loop.time() + HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # to which nothing follows the head
            cycle: Any = self.cycle
            cycle.transport = HeadFirst(self.transport)
        self._reading.set(self.loop.time() + BODY_SECONDS)

    def on_body(self, body: bytes) -> None:
        """Gather it; uvicorn copies each piece and wakes the application for it."""
        self._body.append(body)
        self._size += len(body)
        if self._size > GATHERED:
            super().on_body(self._gathered())

    def on_message_complete(self) -> None:
        cycle: Any = self.cycle
        if not cycle.body:
            cycle.body = self._gathered()  # as bytes, which are not copied when they are taken
        super().on_message_complete()
        self.flow.resume_reading()  # a large body stopped it, and leaving would not be seen
        self._reading.set(NEVER)

    def _gathered(self) -> bytes:
        parts, self._body = self._body, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _write(self, part: bytes) -> bool:
        """A chunk of a body in chunks, as uvicorn would write it."""
        if self.flow.write_paused:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(part), part))
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing.set(self.loop.time() + STALLED_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writing.set(NEVER)

    def _too_slow(self) -> None:
        cycle: Any = self.cycle
        said = cycle is not None and cycle.response_started and not cycle.response_complete
        if self._begun and not said:
            body = envelope(TooSlowError("The request did not come to its end in time."))
            self.transport.write(HEAD % len(body) + body)
        self.transport.close()
