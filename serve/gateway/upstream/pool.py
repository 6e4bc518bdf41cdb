"""The connection pool: which connections are open, which may be reused, how one is opened.

It knows nothing of assistants or of trying elsewhere: a request goes out, a reply or one of our own
errors comes back. Redirects are not followed, bodies not decompressed, no proxy is asked.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from serve.gateway.errors import EngineDroppedError, EngineUnreachableError
from serve.gateway.settings import ENGINE_KEEPALIVE_SECONDS
from serve.gateway.upstream.connection import Connection
from serve.gateway.upstream.reply import Reply

UNREACHABLE = "The engine cannot be reached."
UNTRUSTED = "The engine's certificate is not one that this machine trusts."

PORTS = {"http": 80, "https": 443}
PLACES = 1024
"""How many URLs are kept taken apart."""


@dataclass(frozen=True, slots=True)
class Place:
    """A URL taken apart: where to connect, and what to write."""

    secure: bool
    host: str
    port: int
    head: str

    @classmethod
    def at(cls, url: str) -> Self:
        """Raises ValueError: there is no such place."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = f" {target} HTTP/1.1\r\nhost: {parts.netloc.rpartition('@')[2]}\r\n"
        port = parts.port or PORTS[parts.scheme]
        return cls(parts.scheme == "https", parts.hostname or "", port, head)


class Origin:
    """All connections to one engine."""

    def __init__(self, place: Place, security: ssl.SSLContext | None) -> None:
        self._place = place
        self._security = security
        self.idle: list[Connection] = []
        """The one used last comes last, and is used first: those too many grow old."""
        self.busy: set[Connection] = set()
        self._opening = 0

    @property
    def used(self) -> bool:
        return bool(self.idle or self.busy or self._opening)

    async def ask(self, head: bytes, body: bytes, *, connect_seconds: float, until: float) -> Reply:
        """Send a request and wait for the head of its reply.

        A kept connection may have been closed at the other end as we took it: where nothing came
        back over it, the request goes out once more, over one that was never used.
        """
        if self.idle:
            connection = self.idle.pop()
            try:
                return await self._ask(connection, head, body, until)
            except EngineDroppedError:
                if not connection.silent:
                    raise
        left = until - asyncio.get_running_loop().time()
        connection = await self._open(min(connect_seconds, left))
        return await self._ask(connection, head, body, until)

    async def _ask(self, connection: Connection, head: bytes, body: bytes, until: float) -> Reply:
        self.busy.add(connection)
        reply = connection.ask(head, body, until)
        try:
            await reply.begun()
        except BaseException:
            reply.close()
            raise
        return reply

    async def _open(self, seconds: float) -> Connection:
        loop = asyncio.get_running_loop()
        make: Callable[[], Connection] = functools.partial(
            Connection, loop, free=self._free, gone=self._gone
        )
        place = self._place
        self._opening += 1
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(
                    make, place.host, place.port, ssl=self._security
                )
        except ssl.SSLCertVerificationError as error:
            raise EngineUnreachableError(UNTRUSTED) from error
        except (OSError, UnicodeError) as error:  # the latter of a host that cannot be one
            raise EngineUnreachableError(UNREACHABLE) from error
        finally:
            self._opening -= 1
        return connection

    def _free(self, connection: Connection) -> None:
        self.busy.discard(connection)
        self.idle.append(connection)
        connection.deadline.set(connection.now() + ENGINE_KEEPALIVE_SECONDS)

    def _gone(self, connection: Connection) -> None:
        self.busy.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)


class Upstream:
    """All engines; used as a context manager, at whose end every connection is closed."""

    def __init__(self) -> None:
        self._place = functools.lru_cache(PLACES)(Place.at)
        self._security = functools.cache(ssl.create_default_context)
        self._origins: dict[tuple[bool, str, int], Origin] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for origin in self._origins.values():
            for connection in (*origin.idle, *origin.busy):
                connection.abort()
        await asyncio.sleep(0)  # the loop closes sockets in its next round

    async def ask(
        self,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        connect_seconds: float,
        until: float,
    ) -> Reply:
        """POST a body, or GET where there is none, and wait for the head of the reply until that
        moment of the loop's clock.

        Raises:
            EngineUnreachableError: no connection.
            EngineDroppedError: the connection ended before a reply came.
            EngineFailedError: what came is no reply.
            TimeoutError: nothing came in time.
        """
        try:
            place = self._place(url)
        except (ValueError, KeyError) as error:
            raise EngineUnreachableError(UNREACHABLE) from error
        head = _head(place, body, headers)
        origin = self._origins.get((place.secure, place.host, place.port)) or self._origin(place)
        return await origin.ask(head, body or b"", connect_seconds=connect_seconds, until=until)

    def _origin(self, place: Place) -> Origin:
        """A new origin; those that nothing is left of are forgotten meanwhile: engines that are
        started anew come back on other ports."""
        kept = {key: origin for key, origin in self._origins.items() if origin.used}
        origin = Origin(place, self._security() if place.secure else None)
        kept[place.secure, place.host, place.port] = origin
        self._origins = kept
        return origin


def _head(place: Place, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a header with a line break in it would be a request of its own")
    asks = "GET" if body is None else "POST"
    length = "" if body is None else f"content-length: {len(body)}\r\n"
    return f"{asks}{place.head}{length}{lines}\r\n".encode("latin-1")
