"""The page as a whole: components joined to acts, served by a process of its own.

It knows one address, the gateway's; see `house.py` for what it learns there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.ui import look
from serve.ui.acts import Acts
from serve.ui.asking import Asking
from serve.ui.feedback import Feedback
from serve.ui.house import House
from serve.ui.labels import LOCALES, WORDS
from serve.ui.layout import lay_out
from serve.ui.listeners import (
    join_controls,
    join_conversation,
    join_drawer,
    join_judging,
    join_keeping,
    join_pair,
    join_places,
)
from serve.ui.login.front import Front
from serve.ui.login.proxy import Gate
from serve.ui.login.sessions import Sessions
from serve.ui.login.users import Door
from serve.ui.pair.acts import PairActs
from serve.ui.settings import PageSettings
from serve.ui.status.watch import Watch

REMEMBERED_TABS = 1000
"""Each takes about a third of a megabyte."""
IDLE_SECONDS = 0.02
"""How often it is looked whether anybody did anything. Gradio's own is a millisecond: 4 % of a core
for a page that nobody has open."""
TITLE = "翰林 Hanlin"


def run(settings: PageSettings) -> None:
    """Serve the page until told to stop.

    Raises:
        HanlinError: the users cannot be read.
    """
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=2,
        # The address of who connects is what a trusted header depends on; nobody may rewrite it.
        proxy_headers=False,
    )


def create_app(settings: PageSettings) -> FastAPI:
    """The page as an ASGI app; the gateway need not be there yet."""
    house = House(settings.gateway, key=settings.key)
    watch = Watch(settings.gateway, key=settings.key, each=settings.clock.numbers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(watch.keep_looking())
        yield
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await house.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    blocks = build(house, watch, settings)
    if proxy := settings.proxy:
        _open_to(app, blocks, lambda request: proxy.user(request))
        app.add_middleware(Gate, proxy=proxy)
    elif settings.users:
        sessions = Sessions()
        _open_to(app, blocks, lambda request: sessions.user(request))
        app.add_middleware(Front, door=Door(settings.users), sessions=sessions)
    else:
        _open_to(app, blocks, None)
    app.add_middleware(OwnOrigin)
    return app


def _open_to(app: FastAPI, blocks: gr.Blocks, who: Callable[[Request], str | None] | None) -> None:
    """Serve the page; `who` says who is there, for those whom a gate has let through."""
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        show_error=False,
        enable_monitoring=False,
        i18n=gr.I18n(**dict.fromkeys(LOCALES, WORDS)),
        theme=look.theme(),
        css=look.css(),
        head=look.head(),
        auth_dependency=who,
    )


def build(house: House, watch: Watch, settings: PageSettings) -> gr.Blocks:
    """The page's components and what happens on them."""
    blocks: Page
    feedback, leaves = settings.feedback, settings.proxy is None
    with Page(title=TITLE, analytics_enabled=False, fill_height=True, fill_width=True) as blocks:
        page = lay_out(settings.clock, thumbs=feedback is not None)
        acts = Acts(house, watch, page, feedback=feedback is not None, leaves=leaves)
        asking = Asking(house, page, Feedback(feedback) if feedback else None)
        answers = join_conversation(page, asking)
        if feedback:  # a chat without thumbs that listens for them draws nothing at all
            join_judging(page, asking)
        join_places(blocks, page, acts, answers)
        join_keeping(page)
        join_drawer(page, acts)
        join_controls(page, asking)
        told = {*page.desk.inputs, page.memory.here}
        join_pair(PairActs(house, page.desk, page.memory.here), told)
    blocks.queue(default_concurrency_limit=None, api_open=False)
    waiting = blocks._queue
    waiting.sleep_when_free = waiting.progress_update_sleep_when_free = IDLE_SECONDS
    return blocks


class Page(gr.Blocks):
    """Gradio's page, without the connection by which each open tab would show that it is there.

    A browser has six connections to a host for all its tabs: with one held for each, the sixth tab
    never opens. What a tab leaves in memory goes when so many others have been used since.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.state_session_capacity = REMEMBERED_TABS

    def get_config_file(self) -> Any:
        """What the browser is told of the page."""
        return {**super().get_config_file(), "connect_heartbeat": False}


class OwnOrigin:
    """Tells the browser to reach no other host, not even for a picture in an answer."""

    POLICY = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", self.POLICY)
                message["headers"] = [*message.get("headers", []), policy]
            await send(message)

        await self.app(scope, receive, send_with_policy)
