"""A gateway and an engine host that say what a test wants said: for what a real house seldom is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class HouseStub:
    """Both on one port; what was asked is kept."""

    url: str = ""
    key: str | None = None
    replicas: list[dict[str, Any]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    metrics: str = ""
    log: list[bytes] = field(default_factory=list)
    more: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    """What is written to a log that is followed; b"" ends it."""
    asked: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HouseStub]:
        app = web.Application()
        app.router.add_get("/replicas", self._replicas)
        app.router.add_get("/assistants/{name}/log", self._log)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def _seen(self, request: web.Request) -> None:
        self.asked.append(request.path_qs)
        given = request.headers.get("authorization")
        if self.key is not None and given != f"Bearer {self.key}":
            raise web.HTTPUnauthorized(text='{"error": "a key is wanted"}')

    async def _replicas(self, request: web.Request) -> web.Response:
        self._seen(request)
        return web.json_response({"version": 1, "replicas": self.replicas, "devices": self.devices})

    async def _ready(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        return web.json_response({"status": "ready", "assistants": self.states})

    async def _metrics(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        return web.Response(text=self.metrics)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        self._seen(request)
        if request.match_info["name"] not in {replica["assistant"] for replica in self.replicas}:
            return web.json_response({"error": "no such"}, status=404)
        answer = web.StreamResponse(headers={"content-type": "text/plain"})
        await answer.prepare(request)
        for line in self.log[-int(request.query["lines"]) :]:
            await answer.write(line)
        while "follow" in request.query and (line := await self.more.get()):
            await answer.write(line)
        return answer


def replica(assistant: str, state: str = "ready", **more: Any) -> dict[str, Any]:
    """One as an engine host tells of it."""
    return {
        "id": f"{assistant}.1",
        "assistant": assistant,
        "url": "http://127.0.0.1:41001",
        "state": state,
        "restarts": 0,
        "reason": None,
        "log": [],
        "engine": "turbomind",
        "devices": [0],
        "memory": 9 * 2**30,
        "since": 0.0,
        "pinned": False,
        "workspace": "sha256:1",
        **more,
    }
