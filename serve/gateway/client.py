"""One client's connection: uvicorn's, which waits for ever, given an end to its patience.

A client has so long for the head of its request, so long for the body, and so long to make room for
an answer it does not read. Who comes too late is told so where something can still be said.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.gateway.errors import TooSlowError, envelope
from serve.gateway.leaving import EXTENSION, Leaving
from serve.gateway.upstream.alarm import NEVER, Alarm

HEAD_SECONDS = 15.0
BODY_SECONDS = 60.0
STALLED_SECONDS = 60.0

HEAD = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n"
)


class Client(HttpToolsProtocol):
    """What uvicorn does, in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun = False
        self._leaving = Leaving()
        self._extensions = {EXTENSION: self._leaving}
        self._reading = Alarm(self.loop, self._too_slow)
        self._writing = Alarm(self.loop, transport.abort)
        self._reading.set(self.loop.time() + HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading.stop()
        self._writing.stop()
        super().connection_lost(exc)
        self._leaving.happened()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]
        self._begun = True
        self._reading.set(self.loop.time() + HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._reading.set(self.loop.time() + BODY_SECONDS)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.flow.resume_reading()  # a large body stopped it, and leaving would not be seen
        self._reading.set(NEVER)

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
