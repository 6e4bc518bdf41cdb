"""One HTTP request and its response, on bare ASGI.

It knows whether anything was sent yet, whether the client is still there, and how to end an answer
in each case. It does not know what is asked or answered.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Self

from starlette.types import Receive, Scope, Send

from serve.gateway.admission.keys import credential
from serve.gateway.answers import stream
from serve.gateway.client_connection import client_connection
from serve.gateway.errors import (
    ClientLeftError,
    EncodedError,
    GatewayError,
    TooLargeError,
    envelope,
)

CLIENT_LEFT = 499
"""The status of a request whose client left; nginx made the number known."""

JSON = (b"content-type", b"application/json")
EVENTS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx in front would otherwise hold tokens back
)

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
PASSED_ON = (b"traceparent", b"tracestate", b"x-session-id")


class Exchange:
    """From the request's first byte to the answer's last.

    Used as a context manager around the work for a client: when the client leaves, the work is
    cancelled where it stands and `ClientLeftError` comes out.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._task = asyncio.current_task()
        self._connection = client_connection(scope)
        self.pass_on_now = self._connection.write
        """Sends events without waiting; False where the client has to be waited for."""
        self._left = False
        self._ended = False
        self._length: int | None = None
        self._encoding = b""
        self.started = time.perf_counter()
        self.status = 0
        self.streams = False
        self.failure: GatewayError | None = None
        self.passed_on: dict[str, str] = {}
        self.request_id = b""
        self.credential = b""
        self.envelope: Callable[[GatewayError], bytes] = envelope
        self.ending: Callable[[GatewayError], bytes] = stream.ending
        """How an error is told, before a stream has begun and after: each surface has its way."""
        self.headers: list[tuple[bytes, bytes]] = []
        """What the answer's head is to say besides; filled before anything is sent."""
        self._read(scope["headers"])

    def _read(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        authorization = x_api_key = b""
        for name, value in headers:
            if name == b"content-length":
                self._length = int(value) if value.isdigit() else None
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self.request_id = value
            elif name in PASSED_ON:
                self.passed_on[name.decode()] = value.decode("latin-1")
            elif name == b"authorization":
                authorization = value
            elif name == b"x-api-key":
                x_api_key = value
            elif name == b"content-encoding":
                self._encoding = value
        if authorization or x_api_key:
            self.credential = credential(authorization, x_api_key)
        self.request_id = self.request_id or os.urandom(16).hex().encode()
        self.passed_on["x-request-id"] = self.request_id.decode()

    async def body(self, most: int) -> bytes:
        """The whole request body.

        Raises:
            TooLargeError: it is longer than `most`, or says it will be.
            EncodedError: it is compressed.
            ClientLeftError: it never came to its end.
        """
        if self._length is not None and self._length > most:
            raise TooLargeError(most)
        if self._encoding not in (b"", b"identity"):
            raise EncodedError("The body is compressed; this gateway reads it as it is only.")
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            part = message.get("body", b"")
            size += len(part)
            if size > most:
                raise TooLargeError(most)
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def __enter__(self) -> Self:
        if self._connection.gone:
            raise ClientLeftError
        self._connection.tell = self._leave
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.tell = None
        if self._left:
            raise ClientLeftError from None

    def _leave(self) -> None:
        if not self._ended and self._task is not None:
            self._left = True
            self._task.cancel()

    async def answer(
        self, body: bytes, *, status: int = 200, retry_after: int | None = None
    ) -> None:
        """Send a whole JSON answer."""
        self.status = status
        headers = [JSON, (b"content-length", b"%d" % len(body)), (b"x-request-id", self.request_id)]
        headers += self.headers
        if retry_after is not None:
            headers.append((b"retry-after", b"%d" % retry_after))
        self._ended = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def still(self, why: str) -> None:
        """Say in a stream, as a comment, that it is only waited for, and for what."""
        await self.begin(b": %b\n\n" % why.encode())

    async def begin(self, events: bytes) -> None:
        """Send the first events of a stream, and its head where that has not been sent."""
        if self.streams:
            await self.pass_on(events)
            return
        self.status = 200
        self.streams = True
        headers = [*EVENTS, (b"x-request-id", self.request_id), *self.headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.pass_on(events)

    async def pass_on(self, events: bytes) -> None:
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def end(self, events: bytes = b"") -> None:
        """Send the last events of a stream and end it cleanly."""
        self._ended = True
        await self._send({"type": "http.response.body", "body": events})

    async def fail(self, error: GatewayError) -> None:
        """End with an error, as whatever was already sent allows."""
        self.failure = error
        if self._ended or self._left:
            return
        if self.streams:
            await self.end(self.ending(error))
        else:
            if error.status == 401:
                self.headers.append((b"www-authenticate", b"Bearer"))
            told = self.envelope(error)
            await self.answer(told, status=error.status, retry_after=error.retry_after)
