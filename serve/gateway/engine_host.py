"""Follows the engine host's list of replicas, and asks it to start what is started on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Self

import aiohttp
import msgspec
import stamina

from serve.gateway.errors import NotReadyError
from serve.gateway.replicas import Listed, State

WAIT_SECONDS = 25
"""How long one question may stay unanswered where nothing changes."""

SLACK_SECONDS = 10
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0
JITTER_SECONDS = 0.1
UNCHANGED_PAUSE_SECONDS = 0.2


class _Replica(msgspec.Struct):
    assistant: str
    state: State
    url: str | None = None
    reason: str | None = None


class _Snapshot(msgspec.Struct):
    version: int
    replicas: list[_Replica]


LOST = (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, OSError)


class EngineHost:
    """The engine host at one URL."""

    def __init__(self, url: str, tell: Callable[[Iterable[Listed]], None]) -> None:
        self._url = url.rstrip("/")
        self._tell = tell

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=WAIT_SECONDS + SLACK_SECONDS, sock_connect=2)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

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
                [Listed(r.assistant, r.url or "", r.state, r.reason) for r in snapshot.replicas]
            )

    async def start(self, assistant: str) -> None:
        """Ask for an assistant's engine; asking again does no harm.

        Raises:
            NotReadyError: the engine host cannot be asked, or knows no such assistant.
        """
        try:
            async with self._session.post(f"{self._url}/assistants/{assistant}/start") as reply:
                status = reply.status
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
                return await self._ask(version if attempt.num == 1 else None)
        raise AssertionError("retrying without a limit ends only with a list")

    async def _ask(self, version: int | None) -> _Snapshot:
        query = {} if version is None else {"after": str(version), "wait": str(WAIT_SECONDS)}
        async with self._session.get(f"{self._url}/replicas", params=query) as reply:
            reply.raise_for_status()
            return msgspec.json.decode(await reply.read(), type=_Snapshot)
