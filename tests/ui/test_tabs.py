"""Many tabs of one browser: it has six connections to a host for all of them."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.ui.conftest import PageProcess
from tests.ui.gateway_stub import GatewayStub
from tests.ui.visitor import DESK, visiting, visitor

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TABS = 8


async def test_every_one_of_them_opens_and_is_answered(
    browser: Browser, page_process: PageProcess, gateway: GatewayStub
) -> None:
    async with visiting(browser, page_process.url, DESK) as first:
        tabs = [first]
        while len(tabs) < TABS:
            tabs.append(visitor(await first.page.context.new_page(), first.url))
        for number, tab in enumerate(tabs):
            await tab.go("?assistant=sui")
            await tab.send(f"第{number}页")
            await expect(tab.answer).to_have_count(1)
        for number, tab in enumerate(tabs):
            await expect(tab.page.locator("#chat .user.message")).to_have_text(f"第{number}页")
            assert not tab.wrong, tab.wrong
    assert len(gateway.requests) == TABS
