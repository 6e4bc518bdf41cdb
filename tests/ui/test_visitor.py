"""A network that comes up on the machine breaks off a page's loading; nothing else is forgiven."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from playwright.async_api import Error, Page

from tests.ui.visitor import LOADS, NETWORK_CHANGED, Visitor


class Tab:
    """A browser's tab that fails as often as told before it loads."""

    def __init__(self, *failures: str) -> None:
        self.failures = list(failures)
        self.lost: list[Callable[[], None]] = []
        self.loads = 0

    async def goto(self, _: str) -> None:
        self.loads += 1
        if self.failures:
            raise Error(self.failures.pop(0))
        if self.lost:
            self.lost.pop(0)()


def before(tab: Any) -> Visitor:
    return Visitor(cast(Page, tab), "http://page")


async def test_a_load_that_a_new_network_broke_off_is_done_again() -> None:
    tab = Tab(f"{NETWORK_CHANGED} at http://page/")
    seen = before(tab)
    await seen.go()
    assert tab.loads == 2
    assert not seen.complaints


async def test_a_file_that_a_new_network_broke_off_is_fetched_again() -> None:
    tab = Tab()
    seen = before(tab)
    tab.lost = [lambda: seen.complaints.append(f"Failed to load resource: {NETWORK_CHANGED}")]
    await seen.go()
    assert tab.loads == 2
    assert not seen.complaints


async def test_it_is_not_done_for_ever_and_not_for_anything_else() -> None:
    seen = before(Tab(*[NETWORK_CHANGED] * 9))
    await seen.go()
    assert seen.complaints == [NETWORK_CHANGED]
    assert cast(Any, seen.page).loads == LOADS
    with pytest.raises(Error, match="REFUSED"):
        await before(Tab("net::ERR_CONNECTION_REFUSED")).go()
