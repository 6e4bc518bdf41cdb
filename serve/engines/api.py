"""The engine host over HTTP.

GET  /health
GET  /replicas[?after=VERSION&wait=SECONDS]
     [&gateway=ID&busy=NAME:N,…&idle=NAME:SECONDS,…&in_flight=REPLICA:N,…]
POST /assistants/NAME/start [{"gateway": ID, "busy": {NAME: N}, "idle": {…}, "in_flight": {…}}]
POST /assistants/NAME/update
POST /assistants/NAME/stop
GET  /assistants/NAME/log[?lines=N&follow=1]
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from assistants.errors import UnknownAssistantError
from serve.engines.gateways import Told
from serve.engines.host import Host
from serve.engines.memory.allocator import NeverError
from serve.log_reader import Reader

LONGEST_WAIT = 60.0
LINES = 200
MOST_LINES = 10_000
LOOK_SECONDS = 0.3
"""How often a followed log is looked at; a file cannot be awaited."""

Number = TypeVar("Number", int, float)


class Asked(msgspec.Struct, frozen=True):
    """What may come with a start; what else comes is not for us."""

    gateway: str | None = None
    busy: dict[str, int] = {}
    idle: dict[str, float] = {}
    in_flight: dict[str, int] | None = None


class Doorkeeper:
    """Lets in who brings the key; everybody may ask for the health."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._wanted = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            brought = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(brought, self._wanted):
                answer = _refused("the engine host wants its key (HANLIN_ENGINES_KEY)", 401)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Api:
    """One endpoint a method."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def replicas(self, request: Request) -> Response:
        query, version = request.query_params, self._host.version
        try:
            after, wait = int(query.get("after", "0")), float(query.get("wait", "0"))
            told = _told(query, knows=after if after <= version.number else 0)
        except ValueError:
            said = "after and wait are numbers, busy, idle and in_flight NAME:NUMBER,…"
            return _refused(said, 400)
        if told is not None:
            self._host.hear(told)
            wait = self._host.longest_wait(wait)
        if wait > 0:
            wait = min(wait, LONGEST_WAIT)  # an answer at once would be asked for again at once
            left = await _leaves(request, version.other_than(after, wait))
            if left and told is not None:
                self._host.lose(told)
                return Response()  # for nobody
        if told is not None:
            self._host.gateways.still_there(told.gateway, time.monotonic())
        return JSONResponse(self._host.report())

    async def start(self, request: Request) -> Response:
        name = request.path_params["name"]
        try:
            asked = msgspec.json.decode(await request.body() or b"{}", type=Asked)
        except msgspec.DecodeError as error:
            return _refused(f"the body is not what may come with a start: {error}", 400)
        if asked.gateway is not None:
            self._host.hear(
                Told(
                    gateway=asked.gateway,
                    busy=asked.busy,
                    idle=asked.idle,
                    in_flight=asked.in_flight,
                )
            )
        demanded = asked.gateway is not None and asked.busy.get(name, 0) > 0
        return _accepted(lambda: self._host.ask(name, demanded=demanded))

    async def update(self, request: Request) -> Response:
        return _accepted(lambda: self._host.update(request.path_params["name"]))

    async def stop(self, request: Request) -> Response:
        return _accepted(lambda: self._host.stop(request.path_params["name"]))

    async def log(self, request: Request) -> Response:
        query = request.query_params
        try:
            logs = self._host.logs_of(request.path_params["name"])
            lines = max(0, min(int(query.get("lines", LINES)), MOST_LINES))
        except UnknownAssistantError as error:
            return _refused(str(error), 404)
        except ValueError:
            return _refused("lines is a number", 400)
        kind = "text/plain; charset=utf-8"
        last = logs.last(lines)
        if query.get("follow", "0") in ("0", "false", ""):
            return Response(last, media_type=kind)
        return StreamingResponse(_followed(last, logs, self._host), media_type=kind)


def create_app(host: Host, *, key: str | None = None) -> Starlette:
    api = Api(host)
    routes = [
        Route("/health", api.health),
        Route("/replicas", api.replicas),
        Route("/assistants/{name}/start", api.start, methods=["POST"]),
        Route("/assistants/{name}/update", api.update, methods=["POST"]),
        Route("/assistants/{name}/stop", api.stop, methods=["POST"]),
        Route("/assistants/{name}/log", api.log),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Doorkeeper, key=key)] if key else [])


async def _leaves(request: Request, news: Coroutine[None, None, None]) -> bool:
    """Whether the client closes its connection before there is news."""
    waiting = asyncio.ensure_future(news)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        done, _ = await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (waiting, leaving):
            task.cancel()
    return leaving in done


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _accepted(act: Callable[[], None]) -> Response:
    try:
        act()
    except UnknownAssistantError as error:
        return _refused(str(error), 404)
    except NeverError as error:
        return _refused(str(error), 409)
    return JSONResponse({"status": "accepted"}, status_code=202)


def _refused(why: str, status: int) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": why}, status_code=status, headers=headers)


def _told(query: Mapping[str, str], *, knows: int) -> Told | None:
    """What a poll says of its gateway.

    Raises:
        ValueError: it is not NAME:NUMBER,…
    """
    if not (gateway := query.get("gateway")):
        return None
    return Told(
        gateway=gateway,
        knows=knows,
        busy=_pairs(query.get("busy", ""), int),
        idle=_pairs(query.get("idle", ""), float),
        in_flight=_pairs(query["in_flight"], int) if "in_flight" in query else None,
    )


def _pairs(text: str, kind: Callable[[str], Number]) -> dict[str, Number]:
    pairs = (pair.rpartition(":") for pair in text.split(",") if pair)
    return {name: kind(number) for name, _, number in pairs}


async def _followed(last: bytes, logs: Reader, host: Host) -> AsyncIterator[bytes]:
    """What is written from now on, until the client leaves or the host ends."""
    yield last
    while not host.version.closed:
        if more := logs.more():
            yield more
        await asyncio.sleep(LOOK_SECONDS)
