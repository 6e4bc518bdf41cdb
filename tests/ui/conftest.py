"""The real page process in front of the stand-in gateway, and a browser to look at it with."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, BrowserContext, async_playwright

from serve.ui.login.passwords import Hash
from tests.ports import free_port
from tests.ui.gateway_stub import GatewayStub
from tests.ui.visitor import DESK, PHONE, Visitor, tab

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

HANLIN_UI = (sys.executable, "-m", "hanlin", "ui")
PASSWORD = "correct horse"
QUICK_UI = (sys.executable, "-m", "tests.ui.quick_page")


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


@contextmanager
def page_of(
    gateway_port: int,
    *options: str,
    port: int | None = None,
    command: Sequence[str] = QUICK_UI,
    **environment: str,
) -> Iterator[PageProcess]:
    """The page as its owner starts it, though with a quicker clock unless told otherwise."""
    port = port or free_port()
    shell = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    process = subprocess.Popen(
        [*command, f"--gateway=http://127.0.0.1:{gateway_port}", f"--port={port}", *options],
        cwd=ROOT,
        env={**shell, **environment},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_served(url, process)
        yield PageProcess(url, gateway_port)
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="session")
def feedback_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback") / "of" / "people.jsonl"


@pytest.fixture(scope="session")
def page_process(feedback_file: Path) -> Iterator[PageProcess]:
    """One page for all tests: Gradio takes seconds to import."""
    with page_of(free_port(), HANLIN_FEEDBACK=str(feedback_file)) as page:
        yield page


@pytest.fixture(scope="session")
def guarded() -> Iterator[PageProcess]:
    """A page with two users and without feedback, started with the command itself."""
    users = f"ada={Hash.of(PASSWORD)},bob={Hash.of(PASSWORD)}"
    with page_of(free_port(), command=HANLIN_UI, HANLIN_UI_USERS=users) as page:
        yield page


def wait_until_served(url: str, process: subprocess.Popen[bytes]) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(retries=0), trust_env=False) as client:
        while process.poll() is None:
            try:
                client.get(url, timeout=30)
                return
            except httpx.TransportError:
                time.sleep(0.05)
    raise AssertionError(f"the page process ended with {process.returncode}")


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(page_process: PageProcess) -> AsyncIterator[GatewayStub]:
    """A fresh stand-in gateway where the page expects the real one."""
    stub = GatewayStub()
    async with serving(stub, page_process.gateway_port):
        yield stub


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def desk(browser: Browser) -> AsyncIterator[BrowserContext]:
    """One browser for all who read at a desk: what it has fetched of Gradio it fetches once."""
    async with await browser.new_context(**DESK) as context:
        yield context


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def phone(browser: Browser) -> AsyncIterator[BrowserContext]:
    """The same on phones."""
    async with await browser.new_context(**PHONE) as context:
        yield context


@pytest_asyncio.fixture(loop_scope="session")
async def zh(desk: BrowserContext, page_process: PageProcess) -> AsyncIterator[Visitor]:
    """A reader of Chinese at a desk; nothing may be left to complain about when the test ends."""
    async with tab(desk, page_process.url) as seen:
        yield seen


@pytest_asyncio.fixture(loop_scope="session")
async def en_phone(phone: BrowserContext, page_process: PageProcess) -> AsyncIterator[Visitor]:
    """A reader of English with a phone, in the dark."""
    async with tab(phone, page_process.url) as seen:
        yield seen


@pytest.fixture(params=["zh", "en_phone"])
def anyone(request: pytest.FixtureRequest) -> Visitor:
    """Either of the two."""
    seen: Visitor = request.getfixturevalue(request.param)
    return seen
