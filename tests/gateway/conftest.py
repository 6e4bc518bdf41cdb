"""A real gateway on a free port before stand-in engines, and the official client in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from openai import AsyncOpenAI

from assistants import Assistant, House
from serve.declared import Declared
from serve.gateway.app import Gateway, create_app
from serve.gateway.server import Server, configuration
from serve.gateway.settings import GatewaySettings
from serve.gateway.upstream.affinity import affinity
from serve.gateway.upstream.replicas import Replica
from serve.gateway.upstream.router import choose
from tests.engine_stub import EngineStub, Plan


def declare(name: str = "wishes", **given: Any) -> Assistant:
    values = {"name": name, "title": name, "description": name, "model": {"base": "hanlin-mini"}}
    return Assistant.model_validate({**values, **given})


def house_of(*assistants: Assistant) -> House:
    return House(Path("assistants"), assistants)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Any]:
    """The gateway runs on uvloop where there is one; its transports differ in detail."""
    loops: dict[str, Any] = {"asyncio": asyncio.new_event_loop}
    if item.path.parent.name == "upstream":
        loops["uvloop"] = uvloop.new_event_loop
    return loops


class Listening(Server):
    """Leaves the signals of the test process alone, and says when it listens."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.listens = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@dataclass(frozen=True)
class Running:
    """A gateway that listens."""

    app: Gateway
    port: int
    server: Listening

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def gateway_before(house: House, **given: Any) -> AsyncIterator[Running]:
    settings = GatewaySettings(port=0, **{"drain_grace_seconds": 0, "drain_seconds": 1, **given})
    async with listening(settings, house) as running:
        yield running


@contextlib.asynccontextmanager
async def listening(
    settings: GatewaySettings, house: House, *, declared: Declared | None = None
) -> AsyncIterator[Running]:
    app = create_app(settings, house, declared=declared)
    server = Listening(
        configuration(app, settings), drain=app.drain, grace_seconds=settings.drain_grace_seconds
    )
    serving = asyncio.create_task(server.serve())
    await server.listens.wait()
    try:
        yield Running(app, server.servers[0].sockets[0].getsockname()[1], server)
    finally:
        server.should_exit = True
        await serving


def session_with(first: EngineStub, *others: EngineStub) -> str:
    """A session that, other things being equal, is the first engine's."""
    replicas = [Replica(engine.url) for engine in (first, *others)]
    for name in map(str, itertools.count()):
        if choose(replicas, avoid=(), now=0, affinity=affinity(name, b"")) is replicas[0]:
            return name
    raise AssertionError("unreachable")


Serve = Callable[..., AbstractAsyncContextManager[Running]]
StartEngine = Callable[..., Any]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def engine_with(stack: AsyncExitStack) -> StartEngine:
    """Starts a stand-in engine with a plan."""

    async def start(**plan: Any) -> EngineStub:
        return await stack.enter_async_context(EngineStub(Plan(**plan)).running())

    return start


@pytest.fixture
async def engine(engine_with: StartEngine) -> EngineStub:
    started: EngineStub = await engine_with()
    return started


@pytest.fixture
def gateway_for(stack: AsyncExitStack) -> Callable[..., Any]:
    """Starts a gateway whose assistant 'wishes' stands on the given engines."""

    async def start(
        *engines: EngineStub, settings: dict[str, Any] | None = None, **declared: Any
    ) -> Running:
        assistant = declare(upstreams=[engine.url for engine in engines], **declared)
        return await stack.enter_async_context(
            gateway_before(house_of(assistant), **(settings or {}))
        )

    return start


@pytest.fixture
def client_of(stack: AsyncExitStack) -> Callable[[Running], Any]:
    """The official client; without retries of its own, so that a failure is seen."""

    async def connect(gateway: Running) -> AsyncOpenAI:
        client = AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0, timeout=20)
        return await stack.enter_async_context(client)

    return connect
