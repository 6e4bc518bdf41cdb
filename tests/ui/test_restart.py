"""A page whose server is stopped, and started anew, under a conversation."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Route, expect

from serve.ui.texts import ZH
from tests.ui.conftest import free_port, page_of, serving
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.visitor import DESK, Visitor, visiting

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def talk(seen: Visitor) -> None:
    await seen.go("?assistant=sui")
    await seen.send("你是谁？")
    await expect(seen.answer).to_have_text(PLAIN)
    await expect(seen.page.locator("#message button.submit-button")).to_be_visible()


async def test_a_page_that_nobody_knows_any_more_is_loaded_again(browser: Browser) -> None:
    gateway_port, port = free_port(), free_port()
    async with serving(GatewayStub(), gateway_port):
        with page_of(gateway_port, port=port) as page:
            url = page.url
            context = visiting(browser, url, DESK)
            seen = await context.__aenter__()
            await talk(seen)
            asleep, awake = asyncio.Event(), asyncio.Event()

            async def hold(route: Route) -> None:
                asleep.set()
                await awake.wait()
                await route.continue_()

            await seen.page.route("**/queue/join*", hold)
            await asyncio.wait_for(asleep.wait(), 20)
        with page_of(gateway_port, port=port):
            async with seen.page.expect_event("load"):
                awake.set()
            await expect(seen.answer).to_have_text(PLAIN)
            await expect(seen.page.locator(".toast-body")).to_have_count(0)
            await context.__aexit__(None, None, None)


async def test_while_the_server_is_away_the_page_says_so_and_comes_back(browser: Browser) -> None:
    gateway_port, port = free_port(), free_port()
    async with serving(GatewayStub(), gateway_port):
        with page_of(gateway_port, port=port) as page:
            context = visiting(browser, page.url, DESK)
            seen = await context.__aenter__()
            await talk(seen)
        said = seen.page.get_by_test_id("toast-text")
        await expect(said).to_have_text(ZH.lost)
        with page_of(gateway_port, port=port):
            await expect(said).to_have_count(0)
            await expect(seen.answer).to_have_text(PLAIN)
            seen.complaints.clear()  # the browser itself tells its console of a refused request
            await context.__aexit__(None, None, None)
