"""The page before the real gateway and the shipped declarations: both ends keep the contract."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest
import uvicorn
from playwright.async_api import Browser, expect

from assistants import House, load_house
from serve.gateway.app import create_app
from serve.gateway.server import configuration
from serve.gateway.settings import GatewaySettings
from serve.pace import Pace, pace
from serve.ui.status.watch import Watch
from tests.engine_stub import EngineStub, Plan
from tests.ports import free_port
from tests.ui.conftest import PageProcess, page_of
from tests.ui.visitor import DESK, Visitor, visiting

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@asynccontextmanager
async def real_gateway(root: Path, engine: EngineStub, port: int) -> AsyncIterator[None]:
    shipped = load_house(root / "assistants")
    house = House(
        shipped.folder,
        tuple(a.model_copy(update={"upstreams": (engine.url,)}) for a in shipped),
    )
    settings = GatewaySettings(port=port)
    server = uvicorn.Server(configuration(create_app(settings, house), settings))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await task


def asking(port: int) -> openai.AsyncOpenAI:
    """A client like any other."""
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0)


async def streamed(client: openai.AsyncOpenAI) -> tuple[int, float]:
    """How many tokens an answer has, and how long its first took to come."""
    began, first, tokens = time.perf_counter(), 0.0, 0
    async for chunk in await client.chat.completions.create(
        model="wishes",
        messages=[{"role": "user", "content": "祝姐姐生日快乐"}],
        stream=True,
        stream_options={"include_usage": True},
    ):
        first = first or time.perf_counter() - began
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return tokens, first


async def test_an_assistant_is_chosen_asked_and_stopped(
    zh: Visitor, page_process: PageProcess, root: Path
) -> None:
    engine = EngineStub()
    async with engine.running(), real_gateway(root, engine, page_process.gateway_port):
        await zh.go()
        await expect(zh.page.locator(".hanlin-card")).to_have_count(4)
        await zh.page.locator('.hanlin-card[data-assistant="wishes"]').click()
        box = zh.page.locator("#message textarea")
        await expect(box).to_have_value("祝姐姐生日快乐")
        await zh.page.get_by_role("radio", name="小红书").check()
        await expect(box).to_have_value("祝姐姐生日快乐，小红书风格")
        await box.press("Enter")
        await expect(zh.page.locator("#chat .bot.message")).not_to_be_empty()
        await expect(zh.page.get_by_role("button", name="发送")).to_be_visible()
        engine.plan = Plan(hang="middle")
        await zh.send("祝姐姐生日快乐")
        await zh.page.get_by_role("button", name="停止").click()
        await engine.until(lambda seen: seen.aborted)


async def test_what_is_counted_is_what_clients_were_given(root: Path) -> None:
    """Of streams while they run and when they have ended, of whole answers, of a failure; each
    token once, and no first token that came later than its client saw it."""
    engine, port = EngineStub(), free_port()
    watch = Watch(f"http://127.0.0.1:{port}", key="k", each=0.05)

    async def until(holds: Callable[[Pace], bool]) -> Pace:
        async with asyncio.timeout(20):
            while not (found := pace(watch.readings, "wishes")) or not holds(found):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    async with engine.running(), real_gateway(root, engine, port), asking(port) as client:
        looking = asyncio.create_task(watch.keep_looking())
        await until(lambda found: found.tokens == 0)
        given = [await streamed(client) for _ in range(3)]
        whole = await client.chat.completions.create(
            model="wishes", messages=[{"role": "user", "content": "祝"}]
        )
        assert whole.usage is not None
        tokens = sum(of_one for of_one, _ in given) + whole.usage.completion_tokens
        found = await until(lambda found: found.tokens >= tokens)
        assert (found.tokens, found.first_tokens, found.failed) == (tokens, 3, 0)
        assert 0 < found.first_token_seconds < sum(first for _, first in given)

        engine.plan = Plan(hang="middle", die_after=3)
        stream = await client.chat.completions.create(
            model="wishes", messages=[{"role": "user", "content": "祝"}], stream=True
        )
        await until(lambda found: found.tokens == tokens + 3)  # and it has not ended
        assert watch.readings[-1].of("wishes").in_flight == 1
        await stream.close()
        ended = await until(lambda found: found.first_tokens == 4)
        assert (ended.tokens, ended.failed) == (tokens + 3, 0)

        engine.plan = Plan(die="between", die_after=2)
        with pytest.raises(openai.APIError):
            await streamed(client)
        assert (await until(lambda found: found.failed > 0)).tokens == tokens + 5
        looking.cancel()


async def test_what_is_drawn_is_what_happened(browser: Browser, root: Path) -> None:
    """Answers, silence, answers: tokens as long as a stream hangs, first tokens with a gap."""
    engine, port = EngineStub(), free_port()
    with page_of(port) as page:
        async with (
            engine.running(),
            real_gateway(root, engine, port),
            asking(port) as client,
            visiting(browser, page.url, DESK) as seen,
        ):
            await seen.go("?view=status")
            row = seen.page.locator(".hanlin-table tbody tr", has_text="天机")
            rate, first = row.locator("td").nth(4), row.locator("td").nth(5)
            await expect(rate).to_have_text("0.0")

            engine.plan = Plan(hang="middle", die_after=300, tokens=400)
            asked = await client.chat.completions.create(
                model="wishes", messages=[{"role": "user", "content": "祝"}], stream=True
            )
            await expect(rate).not_to_have_text("0.0")  # while it hangs
            await expect(first).not_to_have_text("–")
            await expect(first).to_have_text("–")
            await asked.close()
            await expect(rate).to_have_text("0.0")
            engine.plan = Plan()
            _, slowest = await streamed(client)
            await expect(first).not_to_have_text("–")

            line = seen.page.locator('#chart-first svg .mark-line path[stroke="#b8862b"]')
            await expect(line).to_have_attribute("d", re.compile(r"^M[^M]+M[^M]+$"))
            marks = seen.page.locator("#chart-first svg .mark-symbol path")
            labels = await marks.evaluate_all("all => all.map(mark => mark.ariaLabel)")
            values = [float(label.split("value: ")[1].split(";")[0]) for label in labels]
            assert values
            assert values[-1] <= slowest + 0.001
