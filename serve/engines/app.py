"""The engine host as a process: what it is told, its HTTP server, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from assistants.load import House, load_house
from serve.declared import Declared
from serve.elsewhere import with_upstreams
from serve.engines.api import create_app
from serve.engines.backends.engine import Engine
from serve.engines.host import Host, Memory
from serve.engines.memory.placement import Planner
from serve.engines.policy import Policy
from serve.engines.site import Site
from serve.ports import listen


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What one engine host is told."""

    assistants: Path
    site: Site
    plan: Planner
    engine: Engine
    port: int = 8001
    policy: Policy = field(default_factory=Policy)


class Server(uvicorn.Server):
    """uvicorn, which leaves signals to the host: engines drain before the API goes."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: HostSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and stop every engine.

    Raises:
        HanlinError: the declaration, the engine or the port cannot be used.
    """
    asyncio.run(serve(settings))


async def serve(settings: HostSettings) -> None:
    def read() -> House:
        return with_upstreams(load_house(settings.assistants), os.environ)

    house = read()
    socket = listen(settings.site.host, settings.port)
    declared = Declared(house.folder, read)
    host = Host(house, settings.engine, settings.site, settings.policy, Memory(settings.plan))
    app = create_app(host, key=settings.site.key)
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = Server(config)
    api = asyncio.create_task(server.serve(sockets=[socket]))
    engines = asyncio.create_task(host.run(lambda: declared.follow(host.take_over, host.tell)))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, engines.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await engines
    finally:
        server.should_exit = True
        await api
