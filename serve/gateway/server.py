"""uvicorn, with a drain before it stops.

First signal: `drain` is called, and for a grace everything is still accepted, so that whoever sends
requests here can learn that it should stop. Then nothing is, and what runs may finish for a while.
"""

from __future__ import annotations

import gc
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from serve.gateway.client import Client
from serve.gateway.origins import Shared
from serve.gateway.settings import CLIENT_KEEPALIVE_SECONDS, GatewaySettings

BACKLOG = 4096


class Server(uvicorn.Server):
    """A uvicorn server with a grace before it closes its door, ending with exit code 0."""

    def __init__(
        self, config: uvicorn.Config, *, drain: Callable[[], None], grace_seconds: float
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._grace = grace_seconds
        self._closes_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain (Ctrl-C: without the grace). Second: no grace. Third: leave."""
        if self._closes_at is None:
            self._drain()
            self._closes_at = time.monotonic() + (self._grace if sig == signal.SIGTERM else 0)
        elif not self.should_exit:
            self.should_exit = True
        else:
            self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._closes_at is not None and time.monotonic() >= self._closes_at:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(
    app: ASGIApp,
    settings: GatewaySettings,
    *,
    drain: Callable[[], None],
    reread: Callable[[], None],
    sock: socket.socket | None = None,
) -> None:
    """Run the application until a signal says stop, and what it does then is done; SIGHUP asks for
    the declarations to be read anew. `sock` is one that listens already."""
    signal.signal(signal.SIGHUP, lambda *_: reread())
    # What is there now stays until the end: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    Server(
        configuration(app, settings), drain=drain, grace_seconds=settings.drain_grace_seconds
    ).run([sock] if sock else None)


def configuration(app: ASGIApp, settings: GatewaySettings) -> uvicorn.Config:
    return uvicorn.Config(
        Shared(app, settings.cors_origins) if settings.cors_origins else app,
        host=settings.host,
        port=settings.port,
        backlog=BACKLOG,
        timeout_keep_alive=CLIENT_KEEPALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
        http=Client,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
