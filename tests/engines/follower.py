"""A gateway as small as can be: it follows a host, counts what it sends, and acknowledges."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx

from serve.engines.gateways import Told
from serve.engines.host import Host


class Follower:
    """Asks for what is not ready, and sends only to what it knows as ready."""

    def __init__(self, host: Host) -> None:
        self.id = uuid.uuid4().hex
        self.answered: Counter[str] = Counter()
        self.served_by: list[str] = []
        self._host = host
        self._in_flight: Counter[str] = Counter()
        self._busy: Counter[str] = Counter()
        self._used: dict[str, float] = {}
        self._known: list[dict[str, Any]] = []
        self._version = 0
        self._news = asyncio.Condition()
        self._http = httpx.AsyncClient(trust_env=False, timeout=60)

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[Follower]:
        task = asyncio.create_task(self._follow())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._http.aclose()

    async def complete(self, assistant: str, **more: object) -> None:
        """One request, from the asking to the answer; fails where it is cut."""
        self._busy[assistant] += 1
        try:
            replica = await self._ready(assistant)
            self._in_flight[replica["id"]] += 1
            try:
                body = {"model": assistant, "prompt": "春", "max_tokens": 8, **more}
                url = f"{replica['url']}/v1/completions"
                answer = await self._http.post(url, json=body)
                assert answer.status_code == 200
                assert answer.json()["choices"]
            finally:
                self._in_flight[replica["id"]] -= 1
            self.answered[assistant] += 1
            self.served_by.append(replica["id"])
        finally:
            self._busy[assistant] -= 1
            self._used[assistant] = time.monotonic()

    async def _ready(self, assistant: str) -> dict[str, Any]:
        asked = False
        async with self._news:
            while True:
                mine = [r for r in self._known if r["assistant"] == assistant]
                if ready := [r for r in mine if r["state"] == "ready"]:
                    return ready[0]
                if mine and not asked and all(r["state"] == "stopped" for r in mine):
                    self._host.hear(self._told(None))
                    self._host.ask(assistant, demanded=True)
                    asked = True
                await self._news.wait()
                asked = asked and any(r["state"] != "stopped" for r in mine)

    def _told(self, knows: int | None) -> Told:
        now = time.monotonic()
        return Told(
            gateway=self.id,
            knows=knows,
            busy=dict(+self._busy),
            idle={name: now - at for name, at in self._used.items()},
            in_flight=dict(+self._in_flight),
        )

    async def _follow(self) -> None:
        while True:
            report = self._host.report()
            async with self._news:
                self._known, self._version = report["replicas"], report["version"]
                self._news.notify_all()
            self._host.hear(self._told(self._version))
            leaving = {r["id"] for r in self._known if r["state"] == "draining"}
            soon = any(self._in_flight[replica] for replica in leaving)
            await self._host.version.other_than(
                self._version, self._host.longest_wait(0.1 if soon else 25)
            )
