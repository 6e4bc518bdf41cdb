"""The composition root: the one place that knows every part of the gateway and joins them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from assistants import House
from serve.gateway import routes
from serve.gateway.admission import Admission
from serve.gateway.assistant import Desk, Surface
from serve.gateway.catalogue import Catalogue
from serve.gateway.completion import Completion
from serve.gateway.delivery import Deliverer
from serve.gateway.engine_host import EngineHost
from serve.gateway.replicas import Replicas
from serve.gateway.server import serve
from serve.gateway.settings import GatewaySettings
from serve.gateway.upstream import Upstream


class Gateway(FastAPI):
    """A FastAPI application whose hot endpoints are reached before its middleware and router."""

    hot: dict[str, ASGIApp]
    draining: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self.hot.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def create_app(settings: GatewaySettings, house: House) -> Gateway:
    """The gateway of a house. Nothing is opened before its lifespan begins."""
    replicas = Replicas(house)
    upstream = Upstream(settings)
    host = EngineHost(settings.engines, replicas.take_over) if settings.engines else None
    deliverer = Deliverer(settings, replicas=replicas, upstream=upstream, host=host)
    desk, admission = Desk(house), Admission(house)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with upstream:
            if host is None:
                yield
                return
            async with host, _running(host):
                yield

    app = Gateway(title="Hanlin", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.hot = {
        surface.value: Completion(
            surface, settings=settings, desk=desk, admission=admission, deliverer=deliverer
        )
        for surface in Surface
    }
    routes.install(
        app,
        house=house,
        catalogue=Catalogue(house, replicas, created=int(time.time())),
        hot=app.hot,
        draining=lambda: app.draining,
    )
    return app


@contextlib.asynccontextmanager
async def _running(host: EngineHost) -> AsyncIterator[None]:
    following = asyncio.create_task(host.follow())
    try:
        yield
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def run(settings: GatewaySettings, house: House) -> None:
    """Serve until a signal says stop."""
    app = create_app(settings, house)

    def drain() -> None:
        app.draining = True

    serve(app, settings, drain=drain)
