"""A page whose server is stopped, and started anew, under a conversation."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Route, expect

from serve.ui.texts import ZH
from tests.ports import free_port
from tests.ui.conftest import page_of, serving
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.visitor import DESK, LEFT, PATIENCE, Visitor, soon, visiting

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def talk(seen: Visitor) -> None:
    await seen.go("?assistant=sui")
    await seen.send("你是谁？")
    await seen.whole(PLAIN)
    await expect(seen.page.locator("#message button.submit-button")).to_be_visible()


async def test_a_page_outlives_its_server(browser: Browser) -> None:
    gateway_port, port = free_port(), free_port()
    asleep, awake = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        asleep.set()
        await awake.wait()
        await route.continue_()

    async with serving(GatewayStub(), gateway_port):
        with page_of(gateway_port, port=port) as page:
            context = visiting(browser, page.url, DESK)
            seen = await context.__aenter__()
            said = seen.page.get_by_test_id("toast-text")
            await talk(seen)
            await seen.page.route("**/queue/join*", hold)
            await soon(asleep)
        with page_of(gateway_port, port=port):  # nobody knows this page any more
            seen.meant += LEFT  # it loads itself again, whatever it is asking just then
            async with seen.page.expect_event("load", timeout=PATIENCE * 1000):
                awake.set()
            await seen.whole(PLAIN)
            await expect(said).to_have_count(0)
            await seen.page.unroute("**/queue/join*", hold)
            assert not seen.wrong
            seen.meant += ["net::ERR_", "Failed to fetch"]  # what is asked while it is away
        await expect(said).to_have_text(ZH.lost)
        with page_of(gateway_port, port=port):
            await expect(said).to_have_count(0)
            await seen.whole(PLAIN)
            await context.__aexit__(None, None, None)
