"""The engine host's list is followed: changes at once, over its absence, and starts on demand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve.gateway.upstream import engine_host
from tests.engine_stub import EngineStub
from tests.gateway.conftest import Listening, Running, declare, gateway_before, house_of

BODY = {"model": "wishes", "messages": [{"role": "user", "content": "x"}]}


class Host:
    """The engine host's side of the contract, as small as it can be."""

    def __init__(self) -> None:
        self.version = 1
        self.replicas: list[dict[str, Any]] = []
        self.started: list[str] = []
        self.said: list[dict[str, Any]] = []
        self.refusal: str | None = None
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.on_start: Any = lambda: None
        self.changed = asyncio.Condition()
        self.port = 0
        self.closing = False

    async def set(self, *replicas: dict[str, Any]) -> None:
        self.version += 1
        self.replicas = list(replicas)
        async with self.changed:
            self.changed.notify_all()

    async def _list(self, request: Request) -> Response:
        self.asked.append(request.url.query)
        self.keys.append(request.headers.get("authorization"))
        async with self.changed:
            self.changed.notify_all()
            if after := request.query_params.get("after"):
                await self.changed.wait_for(lambda: self.closing or self.version > int(after))
        return JSONResponse({"version": self.version, "replicas": self.replicas})

    async def _start(self, request: Request) -> Response:
        self.started.append(request.path_params["name"])
        self.said.append(await request.json())
        if self.refusal is not None:
            return JSONResponse({"error": self.refusal}, status_code=409)
        await self.on_start()
        return Response(status_code=202)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Host]:
        start = Route("/assistants/{name}/start", self._start, methods=["POST"])
        app = Starlette(routes=[Route("/replicas", self._list), start])
        config = uvicorn.Config(
            app, port=self.port, log_config=None, lifespan="off", timeout_graceful_shutdown=0
        )
        server = Listening(config, drain=lambda: None, grace_seconds=0)
        serving = asyncio.create_task(server.serve())
        await server.listens.wait()
        self.port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.should_exit = True
            await serving


def replica(engine: EngineStub, state: str = "ready", **more: Any) -> dict[str, Any]:
    return {
        "assistant": "wishes",
        "url": engine.url,
        "state": state,
        "restarts": 0,
        "log": [],
        **more,
    }


async def until_state(gateway: Running, state: str) -> None:
    async with asyncio.timeout(10), httpx.AsyncClient(base_url=gateway.url) as http:
        while (await http.get("/v1/models/wishes")).json()["state"] != state:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def until_ready(gateway: Running, http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while (await http.get(f"{gateway.url}/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def ask(gateway: Running) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        return await http.post("/v1/chat/completions", json=BODY)


@pytest.fixture
async def host(stack: Any) -> Host:
    started: Host = await stack.enter_async_context(Host().running())
    return started


@pytest.fixture
def before(stack: Any, host: Host) -> Any:
    async def start(**declared: Any) -> Running:
        house = house_of(declare(**declared))
        running: Running = await stack.enter_async_context(
            gateway_before(house, engines=f"http://127.0.0.1:{host.port}", start_seconds=2)
        )
        return running

    return start


async def test_replicas_come_and_go(host: Host, before: Any, engine: EngineStub) -> None:
    gateway = await before()
    await host.set(replica(engine, "starting"))
    await until_state(gateway, "starting")
    refused = await ask(gateway)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert refused.json()["error"]["message"] == "The engine of 'wishes' is starting."
    await host.set(replica(engine))
    await until_state(gateway, "ready")
    assert (await ask(gateway)).status_code == 200
    await host.set(replica(engine, "failed", reason="it ran out of memory"))
    await until_state(gateway, "failed")
    told = (await ask(gateway)).json()["error"]
    assert told["message"] == "The engine of 'wishes' has failed: it ran out of memory"
    assert told["code"] == "engine_not_ready"
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        assert (await http.get("/v1/models/wishes")).json()["reason"] == "it ran out of memory"


async def test_a_host_that_was_away_is_followed_again(stack: Any, engine: EngineStub) -> None:
    first = Host()
    async with first.running():
        first.version = 40
        first.replicas = [replica(engine)]
        house = house_of(declare())
        gateway = await stack.enter_async_context(
            gateway_before(house, engines=f"http://127.0.0.1:{first.port}")
        )
        await until_state(gateway, "ready")
    assert (await ask(gateway)).status_code == 200  # what it said last stands
    second = Host()
    second.port, second.replicas = first.port, [replica(engine, "draining")]
    await stack.enter_async_context(second.running())
    await until_state(gateway, "draining")  # though it counts from one again
    assert "after" not in second.asked[0]


async def test_a_host_that_is_closing_and_answers_at_once_is_not_asked_without_pause(
    host: Host, before: Any, engine: EngineStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_host, "UNCHANGED_PAUSE_SECONDS", 3600)
    host.replicas = [replica(engine)]
    host.closing = True
    gateway = await before()
    async with asyncio.timeout(10), host.changed:
        await host.changed.wait_for(lambda: len(host.asked) == 2)
    for _ in range(3):
        assert (await ask(gateway)).status_code == 200
    assert len(host.asked) == 2


async def test_an_assistant_on_demand_is_started_by_its_first_request(
    host: Host, before: Any, engine: EngineStub
) -> None:
    await host.set({"assistant": "wishes", "url": None, "state": "stopped"})
    gateway = await before(start="on_demand")
    await until_state(gateway, "stopped")
    async with httpx.AsyncClient() as http:
        await until_ready(gateway, http)  # it can be served, though nothing runs yet

    async def become_ready() -> None:
        await host.set(replica(engine, "starting"))
        await host.set(replica(engine))

    host.on_start = become_ready
    replies = await asyncio.gather(ask(gateway), ask(gateway))
    assert [reply.status_code for reply in replies] == [200, 200]
    assert set(host.started) == {"wishes"}
    assert (await ask(gateway)).status_code == 200
    assert len(host.started) <= 2


async def test_an_assistant_that_cannot_start_says_so(
    host: Host, before: Any, engine: EngineStub
) -> None:
    async def fail() -> None:
        await host.set(replica(engine, "failed", reason="the port is taken"))

    host.on_start = fail
    reply = await ask(await before(start="on_demand"))
    assert reply.status_code == 503
    assert "has failed: the port is taken" in reply.json()["error"]["message"]


async def test_a_start_is_waited_for_so_long(host: Host, before: Any) -> None:
    async def nothing() -> None:
        return

    host.on_start = nothing
    reply = await ask(await before(start="on_demand"))
    assert (reply.status_code, host.started) == (503, ["wishes"])


async def test_starting_without_a_host_says_so(stack: Any) -> None:
    house = house_of(declare(start="on_demand"))
    gateway = await stack.enter_async_context(gateway_before(house, engines="http://127.0.0.1:1"))
    reply = await ask(gateway)
    assert reply.status_code == 503
    assert "the engine host is away" in reply.json()["error"]["message"]
