"""Watches one engine process to its end: whether it loads, answers, computes, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from assistants.schema import Assistant
from serve.engines.backends.engine import Engine
from serve.engines.errors import EngineError
from serve.engines.policy import Policy
from serve.engines.supervision.progress import Progress
from serve.process import Process, ending


@dataclass(frozen=True, slots=True)
class Ended:
    """How one process ended."""

    what: str
    """As the end of a sentence that begins with the engine's name, or a sentence if `fault`."""
    served: float = 0.0
    """Seconds since its first token."""
    fault: bool = False
    """The engine said itself what is wrong."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a watch tells, and what it asks, of whoever keeps it."""

    ready: Callable[[], None]
    missed: Callable[[bool], bool]
    """Told after each probe whether it was alive; answers whether it hangs."""
    unused: Callable[[], bool]
    """Whether no gateway has a request in flight here."""


class Watch:
    """Watches one process; `run` returns when it has ended, whoever ended it."""

    def __init__(
        self,
        process: Process,
        client: httpx.AsyncClient,
        assistant: Assistant,
        engine: Engine,
        policy: Policy,
    ) -> None:
        self._process = process
        self._client = client
        self._assistant = assistant
        self._engine = engine
        self._policy = policy
        self._ready_at: float | None = None
        self._condemned: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def condemn(self, what: str) -> None:
        """End it now, for this reason."""
        if not self._condemned.done():
            self._condemned.set_result(what)

    async def run(self, hooks: Hooks) -> Ended:
        """Watch it; what hangs is killed. When cancelled, it is asked to stop, then killed."""
        exit_code = asyncio.create_task(self._process.wait())
        seen = asyncio.create_task(self._observe(hooks))
        try:
            what: set[asyncio.Future[Any]] = {exit_code, seen, self._condemned}
            await asyncio.wait(what, return_when=asyncio.FIRST_COMPLETED)
            if self._condemned.done():
                await self._process.stop(0)
                return Ended(self._condemned.result(), self._served)
            if exit_code.done():
                return self._explained(ending(exit_code.result()))
            await self._process.stop(0)
            return seen.result()
        finally:
            seen.cancel()
            await self._process.stop(self._policy.grace)
            await asyncio.gather(exit_code, seen, return_exceptions=True)

    @property
    def _served(self) -> float:
        return time.monotonic() - self._ready_at if self._ready_at is not None else 0.0

    def _explained(self, what: str) -> Ended:
        """The engine's own words, where it has any, say more than its exit code."""
        fault = self._engine.fault(self._process.lines())
        return Ended(fault or what, self._served, fault is not None)

    async def _observe(self, hooks: Hooks) -> Ended:
        """Returns when it has stopped answering, with what to say of it."""
        try:
            async with asyncio.timeout(self._policy.load):
                await self._first_token()
        except EngineError as error:  # it never will, or not as it should
            return Ended(str(error), fault=True)
        except TimeoutError:
            return self._explained(f"wrote no first token within {self._policy.load:g} seconds")
        if fault := self._engine.fault(self._process.lines()):
            return Ended(fault, fault=True)
        self._ready_at = time.monotonic()
        hooks.ready()
        return Ended(await self._until_it_hangs(hooks), self._served)

    async def _first_token(self) -> None:
        # Another process can only be asked, hence no event to wait for.
        while not await self._engine.first_token(self._client, self._assistant.name):  # noqa: ASYNC110
            await asyncio.sleep(self._policy.poll_loading)

    async def _until_it_hangs(self, hooks: Hooks) -> str:
        policy, written, progress = self._policy, time.monotonic(), Progress()
        longest = self._assistant.timeouts.first_byte * policy.standstill
        while True:
            await asyncio.sleep(policy.probe_every)
            self._process.log.trim()
            if hooks.missed(await self._engine.alive(self._client)):
                return f"hung (no answer to {policy.misses} health checks in a row)"
            progress = progress.seen(await self._engine.progress(self._client), time.monotonic())
            if progress.stands(time.monotonic(), longest):
                return f"hung (it had requests, and got on with none for {longest:g} seconds)"
            if time.monotonic() - written >= policy.token_every and hooks.unused():
                if not await self._writes():
                    return f"hung (no token within {policy.token_timeout:g} seconds, unused)"
                written = time.monotonic()

    async def _writes(self) -> bool:
        """Whether it still computes. Only an engine nobody uses is asked: under load it is slow,
        and what is in use shows by its progress."""
        try:
            async with asyncio.timeout(self._policy.token_timeout):
                return await self._engine.first_token(self._client, self._assistant.name)
        except (EngineError, TimeoutError):
            return False
