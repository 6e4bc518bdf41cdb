"""What the page itself costs: `python -m tests.ui.cost` prints what docs/page.md says.

A script, not a test: nothing here may depend on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from typing import Any

import httpx
import psutil
from playwright.async_api import Browser, async_playwright

from tests.ui.conftest import CHROMIUM, QUIET, free_port, page_of, serving
from tests.ui.gateway_stub import GatewayStub
from tests.ui.visitor import DESK

LOADS, CHATS, IDLE_SECONDS = 5, 50, 20

PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


class Counting(GatewayStub):
    """A gateway that counts who asks for what."""

    asked: int = 0

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        self.asked += 1
        await super().__call__(scope, receive, send)


async def load(browser: Browser, url: str) -> tuple[float, float, int]:
    """One first visit: milliseconds to first paint and to the cards, and bytes fetched."""
    context = await browser.new_context(**DESK)
    page = await context.new_page()
    began = time.perf_counter()
    await page.goto(url)
    await page.locator(".hanlin-card").first.wait_for()
    shown = (time.perf_counter() - began) * 1000
    painted = await page.evaluate(PAINTED)
    fetched = await page.evaluate(
        "performance.getEntriesByType('resource').reduce((sum, r) => sum + r.transferSize, 0)"
    )
    await context.close()
    return painted, shown, fetched


def resident(process: psutil.Process) -> float:
    return process.memory_info().rss / 1e6


class Tab:
    """What one open tab asks of the page, without a browser around it: fifty of those are too
    much for a small machine."""

    def __init__(self, client: httpx.AsyncClient, config: dict[str, Any]) -> None:
        self.client = client
        self.config = config
        self.session = secrets.token_hex(6)

    async def stay(self) -> None:
        """What keeps its session alive."""
        async with self.client.stream("GET", f"/gradio_api/heartbeat/{self.session}") as beats:
            async for _ in beats.aiter_bytes():
                pass

    async def do(self, element: str | None, event: str, message: str = "") -> None:
        """One act, until all of it has come."""
        named = {c["id"]: c for c in self.config["components"]}
        act = next(
            dependency
            for dependency in self.config["dependencies"]
            for target, kind in dependency["targets"]
            if kind == event
            and (element is None or named[target]["props"].get("elem_id") == element)
        )
        data = [self._value(named[number], message) for number in act["inputs"]]
        asked = {"data": data, "fn_index": act["id"], "session_hash": self.session}
        (
            await self.client.post("/gradio_api/queue/join?assistant=sui", json=asked)
        ).raise_for_status()
        where = f"/gradio_api/queue/data?session_hash={self.session}"
        async with self.client.stream("GET", where) as events:
            async for line in events.aiter_lines():
                if "process_completed" in line:
                    assert '"success":true' in line, line
                    return

    def _value(self, component: dict[str, Any], message: str) -> object:
        if component["type"] == "state":
            return None
        value = component["props"].get("value")
        return message if component["props"].get("elem_id") == "message" else value


async def measure() -> None:
    port = free_port()
    stub = Counting()
    began = time.perf_counter()
    with page_of(port) as page:
        print(f"from the command to the first answer: {time.perf_counter() - began:.1f} s")
        (process,) = [
            p
            for p in psutil.process_iter(["cmdline"])
            if f"--gateway=http://127.0.0.1:{port}" in (p.info["cmdline"] or [])
        ]
        async with serving(stub, port), async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            loads = [await load(browser, page.url) for _ in range(LOADS)]
            for name, values in zip(
                ("first paint ms", "cards ms", "bytes"), zip(*loads, strict=True), strict=True
            ):
                print(f"{name}: median {statistics.median(values):.0f}, of {sorted(values)}")
            print(f"memory, nobody there: {resident(process):.0f} MB")
            await browser.close()
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(
                base_url=f"{page.url}/", timeout=120, limits=limits
            ) as client:
                config = (await client.get("/config", params={"assistant": "sui"})).json()
                tabs = [Tab(client, config) for _ in range(CHATS)]
                staying = [asyncio.create_task(tab.stay()) for tab in tabs]
                for tab in tabs:
                    await tab.do(None, "load")
                    await tab.do("message", "submit", "你是谁？")
                print(f"chats: {len(stub.requests)} asked the gateway")
                print(f"memory, {CHATS} open chats: {resident(process):.0f} MB")
                before, spent = stub.asked, sum(process.cpu_times()[:2])
                for _ in range(IDLE_SECONDS // 3):
                    await asyncio.gather(asyncio.sleep(3), *(tab.do(None, "tick") for tab in tabs))
                asked = (stub.asked - before) / IDLE_SECONDS
                busy = (sum(process.cpu_times()[:2]) - spent) / IDLE_SECONDS
                print(f"idle: {asked:.2f} requests a second to the gateway, {busy:.0%} of a core")
                for task in staying:
                    task.cancel()


if __name__ == "__main__":
    asyncio.run(measure())
