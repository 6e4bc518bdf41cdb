"""The one file that speaks HTTP to engines.

It knows nothing of assistants or retries: a request goes out, a reply or one of our own errors
comes back. aiohttp because the hot path is here: httpx costs many times the CPU per request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self

import aiohttp

from serve.gateway.errors import EngineDroppedError, EngineUnreachableError
from serve.gateway.settings import ENGINE_KEEPALIVE_SECONDS, GatewaySettings

EVENTS = "text/event-stream"

TAIL_SECONDS = 0.25
"""How long the end of a reply's body may lag behind its last event before the connection is given
up; an engine that is well sends both together."""

UNREACHABLE = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
)
DROPPED = (aiohttp.ClientError, ConnectionError)


class Reply:
    """An engine's reply whose head is in and whose body may still be coming."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content
        self.status = response.status

    @property
    def streams(self) -> bool:
        return self._response.headers.get("content-type", "").startswith(EVENTS)

    async def chunk(self) -> bytes:
        """What has come in since, or nothing at the end of the body.

        Raises:
            EngineDroppedError: the connection ended before the body did.
        """
        try:
            return await self._content.readany()
        except DROPPED as error:
            raise EngineDroppedError(_sentence(error)) from error

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            EngineDroppedError: the connection ended before the body did.
        """
        try:
            return await self._response.read()
        except DROPPED as error:
            raise EngineDroppedError(_sentence(error)) from error

    async def finish(self) -> None:
        """Let the connection serve another request if the body ends now, as it should."""
        if self._content.at_eof():
            return
        try:
            async with asyncio.timeout(TAIL_SECONDS):
                while await self.chunk():
                    pass
        except (TimeoutError, EngineDroppedError):
            return  # close() then ends the connection

    def close(self) -> None:
        """End it: a connection in the middle of a body is closed, which is how the engine learns
        that nobody waits any more. One whose body has ended is back in the pool already."""
        self._response.close()


class Upstream:
    """The connections to all engines."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings

    async def __aenter__(self) -> Self:
        self._pooled = self._session(
            aiohttp.TCPConnector(limit=0, keepalive_timeout=ENGINE_KEEPALIVE_SECONDS)
        )
        self._fresh = self._session(aiohttp.TCPConnector(limit=0, force_close=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pooled.close()
        await self._fresh.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept-encoding", "user-agent"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_seconds),
        )

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, fresh: bool = False
    ) -> Reply:
        """Send a request and wait for the head of its reply.

        `fresh` takes a connection that was never used, for the second try after a kept one turned
        out to be closed.

        Raises:
            EngineUnreachableError: no connection.
            EngineDroppedError: the connection ended before a reply came.
        """
        session = self._fresh if fresh else self._pooled
        try:
            response = await session.post(url, data=body, headers=headers, allow_redirects=False)
        except UNREACHABLE as error:
            raise EngineUnreachableError(_sentence(error)) from error
        except DROPPED as error:
            raise EngineDroppedError(_sentence(error)) from error
        return Reply(response)


def _sentence(error: Exception) -> str:
    """What happened, without the addresses of a network that is no client's business."""
    if isinstance(error, UNREACHABLE):
        return "The engine cannot be reached."
    return "The engine closed the connection before its answer was complete."
