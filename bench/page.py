"""The page: what it takes to open it, to keep fifty tabs, and what the gateway notices of them.

    python -m bench.page [--write]

from the repository's root, with Debian's Chromium. The gateway has everything on and stands before
an engine that costs nothing. All tabs are real ones of one browser. To see what other clients
notice, page and browser are halted and let go in turn while one client asks without a pause.
`--write` puts the figures into docs/page.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from bench import tables
from bench.gateway import Running, begin, measure, running
from bench.paced_engine import MODEL
from bench.peers import KEY, ours
from bench.process import end_well
from serve.ports import free_port

BEGIN = "<!-- python -m bench.page --write -->"
LOADS = 5
IDLE_SECONDS = 30
LATENCY = ("json", 1)
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
"""Without a sandbox, as Chromium will not start as root with one."""
LOOK = {"locale": "zh-CN", "viewport": {"width": 1280, "height": 800}}
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
FETCHED = "performance.getEntriesByType('resource').reduce((sum, r) => sum + r.transferSize, 0)"


@dataclass
class Found:
    """All that was measured."""

    start: float = 0.0
    paints: list[float] = field(default_factory=list)
    cards: list[float] = field(default_factory=list)
    fetched: list[float] = field(default_factory=list)
    empty: float = 0.0
    full: float = 0.0
    busy: float = 0.0
    gateway_busy: float = 0.0
    p50: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    """Milliseconds, with the tabs and without."""
    cpu: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    """The gateway's milliseconds a request."""
    wrong: int = 0


async def open_once(browser: Browser, url: str, found: Found) -> None:
    """One first visit, nothing cached."""
    context = await browser.new_context(**LOOK)  # type: ignore[arg-type]
    page = await context.new_page()
    began = time.perf_counter()
    await page.goto(url)
    await page.locator(".hanlin-card").first.wait_for()
    found.cards.append(time.perf_counter() - began)
    found.paints.append(await page.evaluate(PAINTED) / 1e3)
    found.fetched.append(await page.evaluate(FETCHED) / 1e3)
    await context.close()


async def converse(context: BrowserContext, url: str) -> Page:
    """A tab in which something was asked and answered."""
    page = await context.new_page()
    await page.goto(f"{url}/?assistant={MODEL}")
    await page.locator("#message button.submit-button").wait_for()
    await page.locator("#message textarea").fill("你是谁？")
    await page.locator("#message textarea").press("Enter")
    await page.locator("#chat .bot.message").wait_for()
    await page.locator("#message button.submit-button").wait_for()
    return page


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[tuple[Browser, psutil.Process]]:
    """A browser and its process, which gives way to everything else: it stands for machines
    that are elsewhere."""
    program = shutil.which("chromium") or sys.exit("needs chromium: apt-get install chromium")
    ours_before = set(psutil.Process().children(recursive=True))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=QUIET)
        (process,) = (
            child
            for child in set(psutil.Process().children(recursive=True)) - ours_before
            if "--remote-debugging-pipe" in child.cmdline()
            and "--type=" not in str(child.cmdline())
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        yield browser, process
        await browser.close()


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


@contextlib.contextmanager
def halted(*processes: psutil.Process) -> Iterator[None]:
    """They do nothing until the block ends."""
    every = [one for process in processes for one in family(process)]
    for one in every:
        one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in every:
            one.send_signal(signal.SIGCONT)


async def stay(gateway: Running, page: Running, found: Found) -> None:
    """What the tabs take while nobody touches them."""
    before = page.cpu(), gateway.cpu()
    await asyncio.sleep(IDLE_SECONDS)
    found.busy = (page.cpu() - before[0]) / IDLE_SECONDS
    found.gateway_busy = (gateway.cpu() - before[1]) / IDLE_SECONDS


def notice(
    gateway: Running, engine: Running, found: Found, seconds: float
) -> Callable[[bool], None]:
    """One round of requests from a client that has nothing to do with the page."""

    def ask(there: bool) -> None:
        seen = measure(gateway, engine, LATENCY, seconds)
        found.p50[there].append(seen["p50_ms"])
        found.cpu[there].append(seen["each"] * 1e3)
        found.wrong += seen["wrong"]

    return ask


async def look(chosen: argparse.Namespace, gateway: Running, engine: Running, log: Path) -> Found:
    """Everything, one after the other."""
    found, port = Found(), free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "hanlin", "ui", f"--port={port}",
               f"--gateway=http://127.0.0.1:{gateway.port}"]  # fmt: skip
    began = time.perf_counter()
    with running(command, port=port, core=0, log=log, environment={"HANLIN_KEY": KEY}) as page:
        found.start = time.perf_counter() - began
        assert page.process is not None
        async with browsing() as (browser, browsers):
            for _ in range(LOADS):
                await open_once(browser, url, found)
            found.empty = page.memory()
            context = await browser.new_context(**LOOK)  # type: ignore[arg-type]
            for _ in range(chosen.tabs):
                await converse(context, url)
            found.full = page.memory()
            await stay(gateway, page, found)
            ask = notice(gateway, engine, found, chosen.seconds)
            for _ in range(chosen.rounds):
                with halted(page.process, browsers):
                    await asyncio.to_thread(ask, False)
                await asyncio.to_thread(ask, True)
    return found


def report(found: Found, tabs: int, machine: str) -> Iterator[str]:
    """The table, line by line."""
    yield f"Measured {machine}.\n"
    yield "| | |\n|---|---|"
    yield f"| from the command to the first answer of the server | {found.start:.1f} s |"
    yield f"| first paint in Chromium, nothing cached | {median(found.paints):.2f} s |"
    yield f"| the cards, with the states the gateway tells | {median(found.cards):.1f} s |"
    yield f"| fetched for it | {median(found.fetched):.0f} kB |"
    yield f"| memory after {LOADS} visits | {found.empty:.0f} MiB |"
    yield f"| memory, {tabs} open tabs with a conversation each | {found.full:.0f} MiB |"
    yield f"| … which nobody touches: processor of the page | {found.busy:.0%} of a core |"
    yield f"| … and of the gateway | {found.gateway_busy:.1%} of a core |"
    for title, taken, form in (
        ("a request through the gateway, median", found.p50, ".2f"),
        ("CPU of the gateway for one", found.cpu, ".3f"),
    ):
        without, there = (format(median(taken[it]), form) for it in (False, True))
        yield f"| {title}: page halted, {tabs} tabs open | {without}, {there} ms |"
    yield f"| answers that were not whole | {found.wrong} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--tabs", type=int, default=50)
    add("--rounds", type=int, default=5, help="with the page and without it")
    add("--seconds", type=float, default=4, help="of requests in each")
    add("--write", action="store_true", help="put the figures into docs/page.md")
    end_well()
    chosen, machine = parser.parse_args(), tables.machine()
    with tempfile.TemporaryDirectory(prefix="hanlin-bench-") as name, contextlib.ExitStack() as up:
        folder, port = Path(name), free_port()
        command = [sys.executable, "-m", "bench.paced_engine", str(port)]
        log = folder / "engine.log"
        engine = up.enter_context(running(command, port=port, core=0, log=log, environment={}))
        peer = ours(folder, port)
        gateway = up.enter_context(
            running(peer.command, port=peer.port, core=1, log=folder / "gateway.log",
                    environment=peer.environment)
        )  # fmt: skip
        begin(peer)
        found = asyncio.run(look(chosen, gateway, engine, folder / "page.log"))
        text = "\n".join(report(found, chosen.tabs, machine))
    print(text)
    if chosen.write:
        tables.write(BEGIN, text, page="page.md")


if __name__ == "__main__":
    main()
