"""The engine host as a process: its small HTTP API, and its end.

GET  /health
GET  /replicas[?after=VERSION&wait=SECONDS]   the second form answers when something changed
POST /assistants/NAME/start
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from assistants.errors import UnknownAssistantError
from assistants.load import load_house
from serve.engines.course import Policy
from serve.engines.engine import choose
from serve.engines.host import Folders, Host
from serve.ports import LOOPBACK, listen

LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What one engine host is told."""

    assistants: Path
    workspaces: Path
    logs: Path
    engine: str = "auto"
    host: str = LOOPBACK
    port: int = 8001
    policy: Policy = field(default_factory=Policy)


class Server(uvicorn.Server):
    """uvicorn, which leaves signals to the host: engines drain before the API goes."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def create_app(host: Host) -> Starlette:
    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def replicas(request: Request) -> Response:
        try:
            after = int(request.query_params.get("after", "0"))
            wait = float(request.query_params.get("wait", "0"))
        except ValueError:
            return JSONResponse({"error": "after and wait are numbers"}, status_code=400)
        if 0 < wait <= LONGEST_WAIT:
            await host.board.other_than(after, wait)
        return JSONResponse(host.report())

    async def start(request: Request) -> Response:
        try:
            host.ask(request.path_params["name"])
        except UnknownAssistantError as error:
            return JSONResponse({"error": str(error)}, status_code=404)
        return JSONResponse({"status": "accepted"}, status_code=202)

    routes = [
        Route("/health", health),
        Route("/replicas", replicas),
        Route("/assistants/{name}/start", start, methods=["POST"]),
    ]
    return Starlette(routes=routes)


def run(settings: HostSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and stop every engine.

    Raises:
        HanlinError: the declaration, the engine or the port cannot be used.
    """
    asyncio.run(serve(settings))


async def serve(settings: HostSettings) -> None:
    house = load_house(settings.assistants)
    folders = Folders(settings.workspaces, settings.logs)
    host = Host(house, choose(settings.engine), folders, settings.policy)
    socket = listen(settings.host, settings.port)
    config = uvicorn.Config(
        create_app(host), log_level="warning", lifespan="off", timeout_graceful_shutdown=1
    )
    server = Server(config)
    api = asyncio.create_task(server.serve(sockets=[socket]))
    engines = asyncio.create_task(host.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, engines.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await engines
    finally:
        server.should_exit = True
        await api
