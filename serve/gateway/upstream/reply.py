"""An engine's HTTP response: its head, and its body as it arrives, within the timeouts.

What the body says is read above, in `beginning` and in `answers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from serve.gateway.errors import EngineFailedError
from serve.gateway.upstream.deadline import NEVER

if TYPE_CHECKING:
    from serve.gateway.upstream.connection import Connection

EVENTS = b"text/event-stream"

MOST_UNREAD = 256 << 10
"""How much of a body may wait for its reader before the engine has to wait too."""

LONGEST_BODY = 64 << 20
"""An engine that sends more than this as one answer has lost its way."""

TAIL_SECONDS = 0.25
"""How long the end of a reply's body may lag behind its last event before the connection is given
up; an engine that is well sends both together."""

TOO_LONG = "The engine's answer is too long."


class Reply:
    """An engine's reply whose head is in and whose body may still be coming.

    Waiting for more of it ends at `until` of the loop's clock, and after `silence` seconds in which
    nothing came, with a TimeoutError.
    """

    __slots__ = (
        "_connection", "_enough", "_failure", "_take", "_unread", "_waiter",
        "ended", "headers", "parts", "silence", "status", "until",
    )  # fmt: skip

    def __init__(self, connection: Connection, until: float) -> None:
        self._connection = connection
        self._unread = 0
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._enough = False
        self._failure: Exception | None = None
        self.ended = False
        """Whether all of its body is in, or was taken."""
        self.headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        """Pieces of the body that are in and that nobody has taken."""
        self.status = 0
        self.until = until
        self.silence = NEVER

    @property
    def streams(self) -> bool:
        return self.headers.get(b"content-type", b"").startswith(EVENTS)

    @property
    def retry_after(self) -> int | None:
        """How many seconds the engine wants to be left alone; a date is not understood."""
        value = self.headers.get(b"retry-after", b"")
        return int(value) if value.isdigit() and len(value) < 6 else None

    async def begun(self) -> None:
        """Wait for the head.

        Raises:
            EngineDroppedError: the connection ended before it came.
            EngineFailedError: what came is none.
        """
        while not self.status:
            await self._more()

    async def chunk(self) -> bytes:
        """What has come in since, or nothing at the end of the body.

        Raises:
            EngineDroppedError: the connection ended before the body did.
            EngineFailedError: what came is not HTTP.
        """
        while not self.parts:
            if self.ended:
                return b""
            await self._more()
        return self._unread_parts()

    async def pour(self, take: Callable[[bytes], bool]) -> bool:
        """Give what comes to `take` as soon as it is here, until that says no or the body ends;
        whether the body has ended.

        A chunk that is waited for costs a future, a turn of the loop and a task's wake-up, which
        together are a third of what a token costs; this way it is a call.

        Raises: as `chunk`.
        """
        while self.parts or not self.ended:
            if self.parts:
                if not take(self._unread_parts()):
                    return False
                continue
            self._take, self._enough = take, False
            try:
                await self._more()
            finally:
                self._take = None
            if self._enough:
                return False
        return True

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            EngineDroppedError: the connection ended before the body did.
            EngineFailedError: what came is not HTTP, or has no end.
        """
        found = first = await self.chunk()
        if first and not self.ended:
            parts, size = [first], len(first)
            while part := await self.chunk():
                parts.append(part)
                size += len(part)
                if size > LONGEST_BODY:
                    raise EngineFailedError(TOO_LONG)
            found = b"".join(parts)
        return found

    async def finish(self) -> None:
        """Let the connection serve another request if the body ends now, as it should."""
        if self.ended:
            return
        self.until, self.silence = self._connection.now() + TAIL_SECONDS, NEVER
        try:
            while await self.chunk():
                pass
        except (TimeoutError, EngineFailedError):
            return  # close() then ends the connection

    def close(self) -> None:
        """End it: a connection in the middle of a body is closed, which is how the engine learns
        that nobody waits any more. One whose body has ended serves others already."""
        if not self.ended:
            self._connection.abort()

    async def _more(self) -> None:
        """Wait until anything has changed."""
        if self._failure is not None:
            raise self._failure
        self._connection.deadline.set(self._latest())
        self._waiter = self._connection.future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _unread_parts(self) -> bytes:
        parts = self.parts
        found = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._unread = 0
        if not self.ended:
            self._connection.read_on()
        return found

    def came(self, size: int) -> bool:
        """Something of that size is in: whoever takes what comes is given it, whoever waits goes
        on; whether the reader lags behind."""
        take, parts = self._take, self.parts
        if take is not None and parts and not self.ended:
            part = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            if take(part):
                self._connection.deadline.at = self._latest()  # which is later than it was
                return False
            self._take, self._enough = None, True
        elif parts:
            self._unread += size
        self._wake()
        return self._unread > MOST_UNREAD

    def fail(self, error: Exception) -> None:
        """From here on there is only this to be told, after what came before."""
        if not self.ended and self._failure is None:
            self._failure = error
            self._wake()

    @property
    def waits(self) -> bool:
        return self._waiter is not None

    def _wake(self) -> None:
        """Something has changed for whoever waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def why_late(self) -> str:
        """Why waiting for more has just ended."""
        if self._connection.now() >= self.until:
            return "The engine had not finished within the time that one request may take."
        return f"The engine was silent for {self.silence:g} s in the middle of its answer."

    def _latest(self) -> float:
        """When waiting for more must have come to its end."""
        latest = self._connection.now() + self.silence
        return latest if latest < self.until else self.until
