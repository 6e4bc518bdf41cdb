"""The real page process in front of the stand-in gateway, and a browser to look at it with."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn
from playwright.async_api import Browser, Page, async_playwright

from tests.ui.gateway_stub import GatewayStub

ROOT = Path(__file__).resolve().parents[2]

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

SERVE_PAGE = (
    "import sys; from serve.ui.page import run; run(sys.argv[1], '127.0.0.1', int(sys.argv[2]))"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(stub: GatewayStub, port: int) -> AsyncIterator[str]:
    """The stand-in gateway on a port, until the block ends (then the port is closed)."""
    config = uvicorn.Config(stub, port=port, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        await task


@dataclass(frozen=True, slots=True)
class PageProcess:
    """The page served by a process of its own, and the port where it expects the gateway."""

    url: str
    gateway_port: int


@pytest.fixture(scope="session")
def page_process() -> Iterator[PageProcess]:
    """One page for all tests: Gradio takes seconds to import."""
    gateway_port, port = free_port(), free_port()
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE_PAGE, f"http://127.0.0.1:{gateway_port}", str(port)],
        cwd=ROOT,
        env=environment,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_served(url, process)
        yield PageProcess(url, gateway_port)
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_until_served(url: str, process: subprocess.Popen[bytes]) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(retries=0), trust_env=False) as client:
        while process.poll() is None:
            try:
                client.get(url, timeout=30).raise_for_status()
                return
            except httpx.TransportError:
                continue
    raise AssertionError(f"the page process ended with {process.returncode}")


@pytest.fixture
async def gateway(page_process: PageProcess) -> AsyncIterator[GatewayStub]:
    """A fresh stand-in gateway where the page expects the real one."""
    stub = GatewayStub()
    async with serving(stub, page_process.gateway_port):
        yield stub


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        await browser.close()


@dataclass(slots=True)
class Visitor:
    """A person's browser window, and all that went wrong in it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    async def go(self, address: str = "") -> None:
        await self.page.goto(f"{self.url}/{address}")
        self._forgive_leaving()

    async def reload(self) -> None:
        await self.page.reload()
        self._forgive_leaving()

    def _forgive_leaving(self) -> None:
        """Gradio complains of its own requests when a page is left while one is under way."""
        own = ("AbortError", "Unexpected error Connection errored out")
        self.complaints[:] = [c for c in self.complaints if not c.startswith(own)]

    async def send(self, message: str) -> None:
        box = self.page.locator("#message textarea")
        await box.fill(message)
        await box.press("Enter")

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


@pytest.fixture
async def zh(browser: Browser, page_process: PageProcess) -> AsyncIterator[Visitor]:
    """A reader of Chinese at a desk; nothing may be left to complain about when the test ends."""
    context = await browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 800})
    seen = visitor(await context.new_page(), page_process.url)
    yield seen
    await context.close()
    assert seen.complaints == []
    assert seen.strangers == []


@pytest.fixture
async def en_phone(browser: Browser, page_process: PageProcess) -> AsyncIterator[Visitor]:
    """A reader of English with a phone, in the dark."""
    context = await browser.new_context(
        locale="en-GB",
        viewport={"width": 390, "height": 844},
        color_scheme="dark",
        has_touch=True,
    )
    seen = visitor(await context.new_page(), page_process.url)
    yield seen
    await context.close()
    assert seen.complaints == []
    assert seen.strangers == []
