"""One HTTP/1.1 connection to an engine, for one request at a time.

What arrives is parsed where it arrives, by httptools, and kept for the reply's reader; a reader
that lags stops the connection from being read. A library's client would do the same for many times
the CPU, which is why this is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

from serve.gateway.errors import EngineDroppedError, EngineFailedError
from serve.gateway.upstream.deadline import Deadline
from serve.gateway.upstream.reply import TOO_LONG, Reply

LONGEST_HEAD = 64 << 10

SHORT = 16 << 10
"""Up to here copying is cheaper than telling the kernel of two pieces."""

DROPPED = "The engine closed the connection before its answer was complete."
BROKEN = "The engine's answer is not HTTP."


class Connection(asyncio.Protocol):
    """One connection, from its opening to its end; `free` is called whenever it may be used again,
    and `gone` as soon as it may not be any more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        free: Callable[[Connection], None],
        gone: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._free = free
        self._gone = gone
        self.deadline = Deadline(loop, self._expire)
        """Rings where what is waited for, the next bytes or the next request, should have come."""
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._reply: Reply | None = None
        self._headers: dict[bytes, bytes] = {}
        self._head = 0
        self._paused = False
        self._lasts = False
        self.now = loop.time
        self.future = loop.create_future
        self.silent = True
        """Whether not a byte has come since the last request went out."""

    # What a request does with it

    def ask(self, head: bytes, body: bytes, until: float) -> Reply:
        """Send a request; its reply is still to begin."""
        self._reply = reply = Reply(self, until)
        self._head = 0
        self.silent = True
        if len(body) < SHORT:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return reply

    def read_on(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """End it now, whatever is under way."""
        self._gone(self)
        self.deadline.stop()
        self._transport.abort()

    def _expire(self) -> None:
        if self._reply is None:
            self.abort()
        elif self._reply.waits:  # otherwise it is the reader who is slow, and asks again
            self._reply.fail(TimeoutError())

    # What the event loop tells it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # nobody asked: a farewell, or something that is not for us
            self.abort()
            return
        self.silent = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._lasts = False
            if not reply.ended:  # otherwise it is what follows the answer that is wrong
                self._fail(reply, EngineFailedError(BROKEN))
                return
        if reply.ended:
            self._finish()
        elif not reply.status:
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self._fail(reply, EngineFailedError(TOO_LONG))
                return
        if reply.came(len(data)) and self._reply is reply and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone(self)
        self.deadline.stop()
        reply, self._reply = self._reply, None
        self._parser = None  # it holds on to this connection
        if reply is None:
            return
        if exc is None and reply.status and _until_the_end(reply):
            reply.ended = True
            reply.came(0)
        else:
            reply.fail(EngineDroppedError(DROPPED))

    def _finish(self) -> None:
        self._reply = None
        self.read_on()
        if self._lasts and not self._transport.is_closing():
            self._free(self)
        else:
            self.abort()

    def _fail(self, reply: Reply, error: Exception) -> None:
        self._reply = None
        self.abort()
        reply.fail(error)

    # What the parser finds

    def on_message_begin(self) -> None:
        if self._reply is None or self._reply.ended:
            raise EngineFailedError(BROKEN)  # a second answer to one question
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self._reply is not None:  # before it come words like 100 Continue
            self._reply.status = status
            self._reply.headers = self._headers

    def on_body(self, part: bytes) -> None:
        if self._reply is not None:
            self._reply.parts.append(part)

    def on_message_complete(self) -> None:
        if self._reply is not None and self._reply.status:
            self._reply.ended = True
            self._lasts = self._parser.should_keep_alive()  # later it has forgotten


def _until_the_end(reply: Reply) -> bool:
    """Whether the body is whatever comes until the connection is closed."""
    headers = reply.headers
    return b"content-length" not in headers and b"transfer-encoding" not in headers
