"""Client of the engine host: follows its list of replicas, reports their use, starts what is not
running.

Each poll carries the usage, so the host knows what it may stop without asking back; and a poll that
names a version confirms that nothing is sent any more to the replicas draining in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec
import stamina

from serve.gateway.errors import EngineFailedError, NotReadyError
from serve.gateway.upstream.pool import Upstream
from serve.gateway.upstream.replicas import Listed, Replicas
from serve.state import State

WAIT_SECONDS = 25
"""How long one question may stay unanswered where nothing changes."""

LEAVING_SECONDS = 1
"""The same while a request is in flight on a replica that is to be stopped when there is none."""

SLACK_SECONDS = 10
CONNECT_SECONDS = 2
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0
JITTER_SECONDS = 0.1
UNCHANGED_PAUSE_SECONDS = 0.2


class _Replica(msgspec.Struct):
    assistant: str
    state: State
    id: str = ""
    url: str | None = None
    reason: str | None = None
    engine: str | None = None


class _Snapshot(msgspec.Struct):
    version: int
    replicas: list[_Replica]


class _Refusal(msgspec.Struct):
    error: str


LOST = (EngineFailedError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError)


class EngineHost:
    """The engine host at one URL."""

    def __init__(
        self, url: str, upstream: Upstream, replicas: Replicas, *, headers: Mapping[str, str]
    ) -> None:
        """`headers` bring the key that the host may want."""
        self._url = url.rstrip("/")
        self._upstream = upstream
        self._replicas = replicas
        self._headers = headers
        self._id = uuid.uuid4().hex
        """By which the host tells one gateway, and one process of it, from another."""
        self._starting: dict[str, asyncio.Task[None]] = {}

    async def follow(self) -> None:
        """Take over every change, for ever; while the host is away, what it said last stands."""
        version: int | None = None
        while True:
            snapshot = await self._next(version)
            if snapshot.version == version:  # a host that is closing answers at once, every time
                await asyncio.sleep(UNCHANGED_PAUSE_SECONDS)
                continue
            version = snapshot.version
            self._replicas.take_over(
                Listed(r.assistant, r.url or "", r.state, r.reason, r.engine, r.id)
                for r in snapshot.replicas
            )

    async def start(self, assistant: str) -> None:
        """Ask for an assistant's engine; who asks while another does, asks with them.

        Raises:
            NotReadyError: the engine host cannot be asked, or it cannot be started.
        """
        starting = self._starting.get(assistant)
        if starting is None:
            starting = asyncio.create_task(self._start(assistant))
            self._starting[assistant] = starting
            starting.add_done_callback(lambda _: self._starting.pop(assistant))
        await asyncio.shield(starting)

    async def _start(self, assistant: str) -> None:
        usage = self._replicas.usage(asyncio.get_running_loop().time())
        said = {
            "gateway": self._id,
            "busy": usage.busy,
            "idle": usage.idle,
            "in_flight": usage.in_flight,
        }
        try:
            path = f"/assistants/{assistant}/start"
            status, body = await self._ask(path, msgspec.json.encode(said))
        except LOST as error:
            raise NotReadyError(
                f"The engine of '{assistant}' cannot be started: the engine host is away."
            ) from error
        if status >= 400:
            why = f"the engine host answered {status}."
            with contextlib.suppress(msgspec.DecodeError):
                why = msgspec.json.decode(body, type=_Refusal).error
            raise NotReadyError(f"The engine of '{assistant}' cannot be started: {why}")

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
        status, body = await self._ask(f"/replicas?{self._question(version)}", None)
        if status != 200:
            raise EngineFailedError(f"The engine host answered {status}.")
        return msgspec.json.decode(body, type=_Snapshot)

    def _question(self, version: int | None) -> str:
        usage = self._replicas.usage(asyncio.get_running_loop().time())
        said = {
            "gateway": self._id,
            "busy": _pairs(usage.busy),
            "idle": _pairs({name: round(idle, 3) for name, idle in usage.idle.items()}),
            "in_flight": _pairs(usage.in_flight),
        }
        if version is not None:
            wait = LEAVING_SECONDS if usage.leaving else WAIT_SECONDS
            said |= {"after": str(version), "wait": str(wait)}
        return urlencode(said, safe=":,")

    async def _ask(self, path: str, body: bytes | None) -> tuple[int, bytes]:
        until = asyncio.get_running_loop().time() + WAIT_SECONDS + SLACK_SECONDS
        reply = await self._upstream.ask(
            self._url + path, body, self._headers, connect_seconds=CONNECT_SECONDS, until=until
        )
        try:
            return reply.status, await reply.body()
        finally:
            reply.close()


def _pairs(numbers: Mapping[str, float]) -> str:
    return ",".join(f"{name}:{number}" for name, number in numbers.items())
