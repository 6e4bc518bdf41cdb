"""The composition root: the one place that knows every part of the gateway and joins them."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from assistants import House
from serve.addresses import LOOPBACKS
from serve.declared import Declared
from serve.engines_key import bearer
from serve.gateway import routes
from serve.gateway.admission.counts import counts
from serve.gateway.admission.gates import Admission
from serve.gateway.admission.keys import Keys
from serve.gateway.admission.rates import Rates
from serve.gateway.background import running
from serve.gateway.catalogue import Catalogue
from serve.gateway.completion import Completion, Way
from serve.gateway.order.assistant import Rewriter
from serve.gateway.origins import ALL
from serve.gateway.record.access_log import on_stderr
from serve.gateway.record.ledger import Ledger
from serve.gateway.record.metrics import Metrics
from serve.gateway.record.tracing import wanted
from serve.gateway.server import serve
from serve.gateway.settings import GatewaySettings
from serve.gateway.strangers import Strangers
from serve.gateway.surfaces.surface import Surface
from serve.gateway.upstream.delivery import Deliverer
from serve.gateway.upstream.engine_host import EngineHost
from serve.gateway.upstream.pool import Upstream
from serve.gateway.upstream.replicas import Replicas
from serve.gateway.workers import Workers
from serve.ports import listen


class Gateway(FastAPI):
    """A FastAPI application whose hot endpoints are reached before its middleware and router."""

    def __init__(
        self,
        *,
        hot: Mapping[str, ASGIApp],
        strangers: Strangers | None,
        drains: Callable[[], None],
        lifespan: Lifespan[FastAPI],
    ) -> None:
        super().__init__(
            openapi_url=None,
            redirect_slashes=False,
            lifespan=lifespan,
            routes=routes.bare(hot),
            dependencies=routes.first(strangers),
        )
        self.hot = hot
        self.drains = drains
        self.draining = False

    def drain(self) -> None:
        """Not ready any more; who waits for an engine is told so, what runs goes on."""
        self.draining = True
        self.drains()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self.hot.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def create_app(
    settings: GatewaySettings, house: House, *, declared: Declared | None = None
) -> Gateway:
    """The gateway of a house, which with `declared` takes over whatever becomes of it."""
    replicas = Replicas(house)
    upstream = Upstream()
    host = _engine_host(settings, upstream, replicas)
    keys, tracing = Keys(settings.keys, house), wanted()
    metrics = Metrics(
        gates=lambda: way.admission.gates, replicas=replicas.of, folder=settings.metrics_folder
    )
    rates = Rates(counts(settings.limits_url, away=metrics.limits_away))
    log = on_stderr(prompts=settings.log_prompts) if settings.access_log else None
    strangers = _strangers(settings) if keys.open else None
    way = Way(
        settings=settings,
        strangers=strangers,
        keys=keys,
        rewriter=Rewriter(house, kind_of=replicas.kind),
        admission=Admission(house, rates),
        deliverer=Deliverer(settings, replicas=replicas, upstream=upstream, host=host),
        ledger=Ledger(rates=rates, metrics=metrics, log=log, tracing=tracing),
    )
    catalogue = Catalogue(house, replicas, created=int(time.time()))

    def reload(changed: House) -> None:
        keys.reload(changed)  # the only one that may refuse; so it is asked before the others
        for part in (replicas, way.rewriter, way.admission, catalogue):
            part.reload(changed)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(rates.close)
            if tracing is not None:
                await opened.enter_async_context(tracing)
            await opened.enter_async_context(upstream)
            if metrics.shared:
                await opened.enter_async_context(running("Publishing metrics", metrics.publish))
            if host is not None:
                await opened.enter_async_context(running("Following engines", host.follow))
            if declared is not None:
                following = running("Following declarations", lambda: declared.follow(reload))
                await opened.enter_async_context(following)
            yield

    hot = {surface.value: Completion(surface, way) for surface in Surface}
    app = Gateway(hot=hot, strangers=strangers, drains=way.deliverer.drain, lifespan=lifespan)
    routes.install(
        app,
        catalogue=catalogue,
        keys=keys,
        metrics=metrics.render,
        standing=lambda: routes.Standing(
            draining=app.draining, refused=declared is not None and declared.problem is not None
        ),
        most_bytes=settings.max_body_bytes,
    )
    return app


def _strangers(settings: GatewaySettings) -> Strangers | None:
    if ALL in settings.cors_origins:
        return None
    return Strangers(settings.cors_origins, local=settings.host in LOOPBACKS)


def _engine_host(
    settings: GatewaySettings, upstream: Upstream, replicas: Replicas
) -> EngineHost | None:
    if settings.engines is None:
        return None
    return EngineHost(settings.engines, upstream, replicas, headers=bearer(settings.engines_key))


def run(settings: GatewaySettings, read: Callable[[], House]) -> None:
    """Serve until a signal says stop. The house is read now, and again when it changes."""
    if settings.workers == 1:
        _run(settings, read)
        return
    with tempfile.TemporaryDirectory(prefix="hanlin-gateway-") as folder:
        shared = dataclasses.replace(settings, metrics_folder=Path(folder))
        sock = listen(settings.host, settings.port)
        Workers(sock, lambda sock: _run(shared, read, sock)).run(settings.workers)


def _run(
    settings: GatewaySettings, read: Callable[[], House], sock: socket.socket | None = None
) -> None:
    house = read()
    declared = Declared(house.folder, read, keys=settings.keys.file)
    app = create_app(settings, house, declared=declared)
    serve(app, settings, drain=app.drain, reread=declared.ask, sock=sock)
