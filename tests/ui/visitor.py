"""A person at the page: a browser window, and all that goes wrong in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, BrowserContext, Error, Locator, Page, expect

PATIENCE = 45.0
"""The machine may be busy; nothing here is about speed."""

expect.set_options(timeout=PATIENCE * 1000)

DESK: Mapping[str, Any] = {"locale": "zh-CN", "viewport": {"width": 1280, "height": 800}}
NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"
"""Chromium breaks off all its requests, even those to its own machine, when a network comes up on
the machine or goes, as one does with each container. No switch turns that off, and the next load
succeeds; what breaks off after it is a failure all the same."""

LEFT = ("AbortError", "Unexpected error Connection errored out")
"""What Gradio says of its own requests when a page is left while one is under way."""

SIGNED_OUT = "status of 401"
"""What the browser says of a request by somebody whom the page does not know (any more)."""

LOADS = 3

PHONE: Mapping[str, Any] = {
    "locale": "en-GB",
    "viewport": {"width": 390, "height": 844},
    "color_scheme": "dark",
    "has_touch": True,
}


async def soon(event: asyncio.Event) -> None:
    """Wait for something to have happened."""
    await asyncio.wait_for(event.wait(), PATIENCE)


@dataclass(slots=True)
class Visitor:
    """A person's browser window, and all that went wrong in it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    meant: list[str] = field(default_factory=list)
    """What belongs to the test, whenever the browser comes to tell of it."""

    @property
    def wrong(self) -> list[str]:
        """All of it that is not meant to be."""
        told = [*self.complaints, *self.strangers]
        return [one for one in told if not any(meant in one for meant in self.meant)]

    async def go(self, address: str = "") -> None:
        await self._load(lambda: self.page.goto(f"{self.url}/{address}"))

    async def reload(self) -> None:
        await self._load(self.page.reload)

    async def _load(self, load: Callable[[], Awaitable[object]]) -> None:
        for _ in range(LOADS):
            self.complaints[:] = [c for c in self.complaints if NETWORK_CHANGED not in c]
            try:
                await load()
            except Error as error:
                if NETWORK_CHANGED not in error.message:
                    raise
                self.complaints.append(error.message)
            if not any(NETWORK_CHANGED in complaint for complaint in self.complaints):
                break
        self._forgive_leaving()

    def _forgive_leaving(self) -> None:
        self.complaints[:] = [c for c in self.complaints if not c.startswith(LEFT)]

    async def send(self, message: str) -> None:
        # The button comes with all else that is put into the room: then nothing overtakes typing.
        await expect(self.page.locator("#message button.submit-button")).to_be_visible()
        await self.box.fill(message)
        if await self.box.input_value() != message:  # a proposal came in the midst of it
            await self.box.fill(message)
        await self.box.press("Enter")

    async def whole(self, *answers: str) -> None:
        """All the answers there are, and none of them still grows, whatever it looks like."""
        await expect(self.answer).to_have_text(list(answers))
        await expect(self.page.locator("#message button.submit-button")).to_be_visible()

    async def told(self) -> None:
        """What the page's server has to say now has been said."""
        async with self.page.expect_request_finished(
            lambda request: "/queue/data" in request.url, timeout=PATIENCE * 1000
        ):
            pass

    @property
    def box(self) -> Locator:
        return self.page.locator("#message textarea")

    @property
    def answer(self) -> Locator:
        """What the assistant said, all of it."""
        return self.page.locator("#chat .bot.message")

    @property
    def notice(self) -> Locator:
        return self.page.locator("#chat .hanlin-notice")

    def card(self, name: str) -> Locator:
        return self.page.locator(f'.hanlin-card[data-assistant="{name}"]')

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    async def answers(self) -> list[str]:
        return await self.page.locator("#chat .bot.message").all_inner_texts()


def visitor(page: Page, url: str) -> Visitor:
    """Watch what the browser complains of and whom it talks to."""
    seen = Visitor(page, url)
    page.on(
        "console",
        lambda m: seen.complaints.append(m.text) if m.type in {"error", "warning"} else None,
    )
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on(
        "request",
        lambda r: (
            None if r.url.startswith((url, "data:", "blob:")) else seen.strangers.append(r.url)
        ),
    )
    return seen


@asynccontextmanager
async def tab(context: BrowserContext, url: str) -> AsyncIterator[Visitor]:
    """A tab of a browser that remembers nothing of who was here before, but the page's files.

    At the end its console is empty, and it asked nobody but the page.
    """
    seen = visitor(await context.new_page(), url)
    devtools = await context.new_cdp_session(seen.page)
    remembered = {"origin": url, "storageTypes": "cookies,local_storage,indexeddb"}
    await devtools.send("Storage.clearDataForOrigin", remembered)
    await context.clear_permissions()
    try:
        yield seen
    finally:
        for page in context.pages:
            await page.close()
    assert not seen.wrong, seen.wrong


@asynccontextmanager
async def visiting(browser: Browser, url: str, look: Mapping[str, Any]) -> AsyncIterator[Visitor]:
    """A tab of a browser of its own."""
    context: BrowserContext = await browser.new_context(**look)
    async with context, tab(context, url) as seen:
        yield seen
