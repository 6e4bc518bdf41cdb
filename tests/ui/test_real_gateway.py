"""The page before the real gateway and the shipped declarations: both ends keep the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from playwright.async_api import expect

from assistants import House, load_house
from serve.gateway.app import create_app
from serve.gateway.server import configuration
from serve.gateway.settings import GatewaySettings
from tests.engine_stub import EngineStub, Plan
from tests.ui.conftest import PageProcess
from tests.ui.visitor import Visitor

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
