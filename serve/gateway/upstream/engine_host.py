"""Follows the engine host's list of replicas, and asks it to start what is started on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec
import stamina

from serve.gateway.errors import EngineFailedError, NotReadyError
from serve.gateway.upstream.pool import Upstream
from serve.gateway.upstream.replicas import Listed, State

WAIT_SECONDS = 25
"""How long one question may stay unanswered where nothing changes."""

SLACK_SECONDS = 10
CONNECT_SECONDS = 2
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0
JITTER_SECONDS = 0.1
UNCHANGED_PAUSE_SECONDS = 0.2


class _Replica(msgspec.Struct):
    assistant: str
    state: State
    url: str | None = None
    reason: str | None = None
    engine: str | None = None


class _Snapshot(msgspec.Struct):
    version: int
    replicas: list[_Replica]


LOST = (EngineFailedError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError)


class EngineHost:
    """The engine host at one URL."""

    def __init__(
        self, url: str, upstream: Upstream, tell: Callable[[Iterable[Listed]], None]
    ) -> None:
        self._url = url.rstrip("/")
        self._upstream = upstream
        self._tell = tell

    async def follow(self) -> None:
        """Tell of every change, for ever; while the host is away, what it said last stands."""
        version: int | None = None
        while True:
            snapshot = await self._next(version)
            if snapshot.version == version:  # a host that is closing answers at once, every time
                await asyncio.sleep(UNCHANGED_PAUSE_SECONDS)
                continue
            version = snapshot.version
            self._tell(
                [
                    Listed(r.assistant, r.url or "", r.state, r.reason, r.engine)
                    for r in snapshot.replicas
                ]
            )

    async def start(self, assistant: str) -> None:
        """Ask for an assistant's engine; asking again does no harm.

        Raises:
            NotReadyError: the engine host cannot be asked, or knows no such assistant.
        """
        try:
            status, _ = await self._ask(f"/assistants/{assistant}/start", b"")
        except LOST as error:
            raise NotReadyError(
                f"The engine of '{assistant}' cannot be started: the engine host is away."
            ) from error
        if status >= 400:
            raise NotReadyError(
                f"The engine of '{assistant}' cannot be started: the engine host answered {status}."
            )

    async def _next(self, version: int | None) -> _Snapshot:
        """The next list. After a failure without `after`: a host that was started anew counts
        from the beginning."""
        async for attempt in stamina.retry_context(
            on=LOST,
            attempts=None,
            timeout=None,
            wait_initial=FIRST_PAUSE_SECONDS,
            wait_max=LONGEST_PAUSE_SECONDS,
            wait_jitter=JITTER_SECONDS,
        ):
            with attempt:
                return await self._list(version if attempt.num == 1 else None)
        raise AssertionError("retrying without a limit ends only with a list")

    async def _list(self, version: int | None) -> _Snapshot:
        query = "" if version is None else f"?after={version}&wait={WAIT_SECONDS}"
        status, body = await self._ask(f"/replicas{query}", None)
        if status != 200:
            raise EngineFailedError(f"The engine host answered {status}.")
        return msgspec.json.decode(body, type=_Snapshot)

    async def _ask(self, path: str, body: bytes | None) -> tuple[int, bytes]:
        until = asyncio.get_running_loop().time() + WAIT_SECONDS + SLACK_SECONDS
        reply = await self._upstream.ask(
            self._url + path, body, {}, connect_seconds=CONNECT_SECONDS, until=until
        )
        try:
            return reply.status, await reply.body()
        finally:
            reply.close()
