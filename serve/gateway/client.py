"""uvicorn's HTTP protocol for one client connection, with time and size limits added.

A client has so long for the head of its request, so long for the body, and so long to make room for
an answer it does not read; its head has an end too. What is wrong with a request before there is
one to speak of is said here, in the same words as everything else, where it can still be said.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.gateway.client_connection import EXTENSION, ClientConnection
from serve.gateway.errors import (
    BadRequestError,
    GatewayError,
    HeadTooLargeError,
    TooSlowError,
    envelope,
)
from serve.gateway.origins import Shared
from serve.gateway.upstream.deadline import NEVER, Deadline

HEAD_SECONDS = 15.0
BODY_SECONDS = 60.0
STALLED_SECONDS = 60.0

LONGEST_HEAD = 64 << 10
"""Looked at after every read, so what comes in one may be longer: it is memory that is guarded."""

GATHERED = 1 << 20
"""So much of a body is gathered before the application hears of it; more of it only as it reads."""

CONTINUE = b"HTTP/1.1 100"

HEAD = (
    "HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    "connection: close\r\n"
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
    """What uvicorn does, within limits."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answered: Any = None
        self._begun = False
        self._head_open = self._tail_open = False
        self._head_size = self._tail_size = 0
        self._connection = ClientConnection(self._write)
        self._extensions = {EXTENSION: self._connection}
        self._reading = Deadline(self.loop, self._too_slow)
        self._writing = Deadline(self.loop, transport.abort)
        self._reading.set(self.loop.time() + HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading.stop()
        self._writing.stop()
        self.pipeline.clear()  # requests that wait for their turn have nobody to be answered to
        self.cycle = self._answered  # of which uvicorn takes the last that came to be
        super().connection_lost(exc)
        self._connection.left()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        in_tail = self._tail_open
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                again = self._without_offer() + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self.parser.feed_data(again)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(BadRequestError("This is not a request in HTTP/1.1."))
            return
        if self._head_open:
            self._head_size += len(data)
            if self._head_size > LONGEST_HEAD:
                what = f"The head of the request is larger than {LONGEST_HEAD} bytes."
                self._refuse(HeadTooLargeError(what))
        elif in_tail and self._tail_open:
            self._tail_size += len(data)
            if self._tail_size > LONGEST_HEAD:
                what = f"What follows the body of the request is larger than {LONGEST_HEAD} bytes."
                self._refuse(HeadTooLargeError(what))

    def _without_offer(self) -> bytes:
        """The head of a request that offers another protocol, which nobody has to take, without
        that offer: behind one a parser looks for no body, so another one begins anew. Java's
        client offers HTTP/2 with the first request of every connection."""
        lines = [b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
        lines += [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade"]
        return b"".join(lines) + b"\r\n"

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]
        self._begun = self._head_open = True
        self._tail_open = False
        self._head_size = 0
        self._body: list[bytes] = []
        self._size = 0
        self._reading.set(self.loop.time() + HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        self._head_open = False
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self.headers = []  # what follows a body in chunks looks like them, and is for nobody
        if self.scope["method"] != "HEAD":  # to which nothing follows the head
            cycle: Any = self.cycle
            cycle.transport = HeadFirst(self.transport)
        self._reading.set(self.loop.time() + BODY_SECONDS)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_chunk_header(self) -> None:
        """A piece of a body in chunks follows, or its end, behind which there may be more lines."""
        self._tail_open = True
        self._tail_size = 0

    def on_body(self, body: bytes) -> None:
        """Gather it; uvicorn copies each piece and wakes the application for it."""
        self._tail_open = False
        self._body.append(body)
        self._size += len(body)
        if self._size > GATHERED:
            super().on_body(self._gathered())

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
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
        if self.flow.write_paused or self._connection.gone:
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
        if self._begun:
            self._refuse(TooSlowError("The request did not come to its end in time."))
        else:
            self.transport.close()

    def _shared(self) -> list[tuple[bytes, bytes]]:
        """What a page of another origin needs in a head to read an answer, if it may."""
        if not (self._begun and isinstance(self.app, Shared)):
            return []
        return self.app.head(self.scope["headers"])

    def _refuse(self, error: GatewayError) -> None:
        """Say why, unless an answer is being given, and close."""
        cycle: Any = self.cycle  # the last that came; where one waits, one before it is answered
        answering = self.pipeline or (
            cycle and cycle.response_started and not cycle.response_complete
        )
        if not answering:
            body = envelope(error)
            phrase = HTTPStatus(error.status).phrase
            head = HEAD.format(status=error.status, phrase=phrase, length=len(body)).encode()
            lines = [b"%b: %b\r\n" % pair for pair in self._shared()]
            self.transport.write(b"".join((head, *lines, b"\r\n", body)))
        self.transport.close()
