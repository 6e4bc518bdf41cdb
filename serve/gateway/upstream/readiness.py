"""Waits for an assistant's engine while it loads, is started, or others make room for it.

While a request waits here the engine host knows of it, and a streaming client gets comments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from assistants import Assistant
from serve.gateway.errors import DrainingError, NotReadyError
from serve.gateway.settings import GatewaySettings
from serve.gateway.upstream.engine_host import EngineHost
from serve.gateway.upstream.replicas import Replicas
from serve.state import State

NEWS_SECONDS = 1.0
"""How long an engine host may take to notice and tell that an engine has died."""

Still = Callable[[str], Awaitable[None]]
"""Told why a request still waits."""


class Readiness:
    """Of all assistants; those whose engines run elsewhere are as they are."""

    def __init__(
        self, settings: GatewaySettings, replicas: Replicas, host: EngineHost | None
    ) -> None:
        self._settings = settings
        self._replicas = replicas
        self._host = host
        self._closed = False

    def close(self) -> None:
        """Nobody waits here any more."""
        self._closed = True
        self._replicas.wake()

    async def wait(self, assistant: Assistant, still: Still | None) -> None:
        """Have started what is not running, and wait until it is ready.

        Raises:
            NotReadyError: it cannot be started, or was not ready in time.
            DrainingError: the gateway is to end.
        """
        name = assistant.name
        if any(replica.ready for replica in self._replicas.of(name)):
            return
        if self._host is None or assistant.upstreams:
            raise self.lacking(name)
        with self._replicas.waited_for(name):
            try:
                async with asyncio.timeout(self._settings.start_seconds):
                    await self._started(name, self._host, still)
            except TimeoutError:
                raise self.lacking(name) from None

    async def news(self, assistant: Assistant, url: str) -> bool:
        """Whether the engine host says soon that its engine there is not ready any more."""
        if self._host is None or assistant.upstreams:
            return False
        try:
            async with asyncio.timeout(NEWS_SECONDS):
                while any(r.ready and r.url == url for r in self._replicas.of(assistant.name)):
                    await self._replicas.change.wait()
        except TimeoutError:
            return False
        return True

    def lacking(self, name: str) -> NotReadyError:
        """Why there is no engine to ask."""
        state, reason = self._replicas.state(name), self._replicas.reason(name)
        why = f": {reason}" if reason else "."
        return NotReadyError(f"The engine of '{name}' {state.told}{why}")

    async def _started(self, name: str, host: EngineHost, still: Still | None) -> None:
        sign_at = monotonic() + self._settings.first_sign_seconds
        while (state := self._replicas.state(name)) is not State.ready:
            changed = self._replicas.change
            if self._closed:
                raise DrainingError("The gateway is being stopped, and the engine is not ready.")
            if state is State.failed:
                raise self.lacking(name)
            if state is State.stopped:
                await host.start(name)
            try:
                # `wait_for` of Python 3.11 loses a cancellation that comes together with the event.
                async with asyncio.timeout(sign_at - monotonic()):
                    await changed.wait()
            except TimeoutError:
                sign_at = monotonic() + self._settings.sign_seconds
                if still is not None:
                    await still(f"the engine of '{name}' {self._replicas.state(name).told}")
