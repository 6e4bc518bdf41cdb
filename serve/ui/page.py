"""The page as a whole: components joined to acts, served by a process of its own.

It knows one address, the gateway's; see `house.py` for what it learns there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.ui import look
from serve.ui.acts import Acts
from serve.ui.house import Control, House
from serve.ui.layout import Layout, choosers, lay_out

REFRESH_SECONDS = 3.0
TITLE = "翰林 Hanlin"


def run(gateway_url: str, host: str, port: int, *, key: str = "hanlin") -> None:
    """Serve the page until told to stop."""
    uvicorn.run(
        create_app(gateway_url, key=key),
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )


def create_app(gateway_url: str, *, key: str = "hanlin") -> FastAPI:
    """The page as an ASGI app; the gateway need not be there yet."""
    house = House(gateway_url, key=key)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await house.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    gr.mount_gradio_app(
        app,
        build(house),
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        show_error=False,
        enable_monitoring=False,
        theme=look.theme(),
        css=look.css(),
        head=look.head(),
    )
    app.add_middleware(OwnOrigin)
    return app


def build(house: House) -> gr.Blocks:
    """The page's components and what happens on them."""
    blocks: gr.Blocks
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_height=True, fill_width=True
    ) as blocks:
        page = lay_out(REFRESH_SECONDS)
        acts = Acts(house, page)
        answers = _join_conversation(page, acts)
        _join_choice(blocks, page, acts, answers)
        _join_controls(page, acts)
    blocks.queue(default_concurrency_limit=None, api_open=False)
    return blocks


def _on(triggers: Any, fn: Any, inputs: Any, outputs: Any, **more: Any) -> Any:
    """A listener that any number of pages can use at once and no outside client can call."""
    return gr.on(
        triggers,
        fn,
        inputs,
        outputs,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
        **more,
    )


def _join_conversation(page: Layout, acts: Acts) -> list[Any]:
    """Everything that is answered, and what ends an answer; returns what can be cancelled."""
    told = [page.chat, page.chosen, page.language]
    shown = [page.chat, page.message]
    answers = [
        _on(page.message.submit, acts.ask, [page.message, *told], shown),
        _on(page.chat.example_select, acts.ask_example, told, shown),
        _on(page.chat.retry, acts.ask_again, told, shown),
        _on(page.chat.edit, acts.ask_edited, told, shown),
        _on(page.surprise.click, acts.surprise, told, shown),
    ]
    _on(page.message.stop, acts.stop, [page.chat, page.language], shown, cancels=answers)
    _on(page.clear.click, acts.clear, [page.language], shown, cancels=answers).then(
        acts.propose,
        [page.chosen, page.offered, page.message],
        page.message,
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )
    return answers


def _join_choice(blocks: gr.Blocks, page: Layout, acts: Acts, answers: list[Any]) -> None:
    """Opening the page, choosing an assistant, changing language or light, time going by."""
    dressed, told = page.dressed, [page.chosen, page.language]
    _on(blocks.load, acts.open, None, [page.language, *dressed])
    _on(
        [page.cards.click, page.brand.click],
        acts.choose,
        [page.language],
        dressed,
        cancels=answers,
        trigger_mode="always_last",
    )
    _on(page.switch.click, acts.translate, told, [page.language, *dressed])
    _on(page.theme.click, None, None, None, js="() => window.hanlin.theme()")
    _on(page.tick.tick, acts.refresh, [*told, page.seen], dressed)


def _join_controls(page: Layout, acts: Acts) -> None:
    """The chosen assistant's controls; whatever is picked becomes the prompt in the box."""

    def draw(offered: dict[str, Any] | None) -> None:
        if offered is None:
            return
        name = offered["assistant"]
        controls = {key: Control.model_validate(c) for key, c in offered["controls"].items()}
        fields = choosers(controls, offered["language"], name)

        # Gradio's `input` follows key presses only and misses what is pasted or written by an input
        # method; `change` also comes when a field is merely drawn, and is then passed over.
        shown = gr.State([control.default for control in controls.values()])

        async def render(before: list[str], *values: Any) -> tuple[Any, Any]:
            now = [str(value or "") for value in values]
            if now == before:
                return gr.skip(), gr.skip()
            return now, await acts.render(name, dict(zip(controls, now, strict=True)))

        _on(
            [field.change for field in fields],
            render,
            [shown, *fields],
            [shown, page.message],
            trigger_mode="always_last",
        )

    with page.controls:
        gr.render(page.offered, triggers=[page.offered.change], show_progress="hidden")(draw)
    _on(page.offered.change, acts.propose, [page.chosen, page.offered, page.message], page.message)


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
