"""The whole page in front of a real house: one walk past everything, in both languages and widths.

Engines, gateway and page are those of `hanlin up`; nothing here stands in for anything. Beside the
shipped assistants there is one whose controls add to what is typed, which none of those does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from playwright.async_api import Browser, Page, expect

from serve.ui.texts import EN, ZH, Texts
from tests.ui.real_house import PASSWORD, USER, RealHouse, house_in
from tests.ui.visitor import DESK, LEFT, PHONE, SIGNED_OUT, Visitor, visiting

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

LOOKS: Mapping[str, Mapping[str, Any]] = {
    "zh-1280": DESK,
    "en-1280": {**DESK, "locale": "en-GB", "color_scheme": "dark"},
    "zh-390": {**PHONE, "locale": "zh-CN", "color_scheme": "light"},
    "en-390": PHONE,
}


@pytest.fixture(scope="session")
def real_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHouse]:
    with house_in(tmp_path_factory.mktemp("house")) as house:
        yield house


@dataclass(frozen=True, slots=True)
class Words:
    """What stands on the buttons."""

    zh: bool

    def __call__(self, zh: str, en: str) -> str:
        return zh if self.zh else en

    @property
    def page(self) -> Texts:
        return ZH if self.zh else EN


async def fits(page: Page) -> None:
    """Nothing reaches beyond the window's width."""
    width = (page.viewport_size or {})["width"]
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def answered(seen: Visitor, count: int) -> None:
    """There are so many answers, and the last is whole."""
    await expect(seen.answer).to_have_count(count)
    await expect(seen.answer.last).to_have_text(re.compile(r"\S"))
    await expect(seen.page.locator("#message button.submit-button")).to_be_visible()


@pytest.mark.parametrize("look", LOOKS)
async def test_a_walk_past_everything(look: str, real_house: RealHouse, browser: Browser) -> None:
    words = Words(look.startswith("zh"))
    async with visiting(browser, real_house.page, LOOKS[look]) as seen:
        seen.meant += [*LEFT, SIGNED_OUT]  # what is under way when one signs out
        await _signs_in(seen, words.page)
        await expect(seen.page.locator(".hanlin-card")).to_have_count(5)
        await expect(seen.page.locator(".hanlin-card .ready")).to_have_count(5)
        await fits(seen.page)
        await _converses(seen, words)
        await _sets(seen, words)
        await _judges(seen, words)
        await _adds_to_what_is_typed(seen, words)
        await _compares(seen, words, real_house)
        await _looks_at_the_status(seen, words)
        await seen.page.get_by_role("link", name=words.page.leave).click()
        await expect(seen.page.get_by_label(words.page.password)).to_be_visible()


async def _signs_in(seen: Visitor, words: Texts, address: str = "") -> None:
    await seen.go(address)
    await fits(seen.page)
    await seen.page.get_by_label(words.user_name).fill(USER)
    await seen.page.get_by_label(words.password).fill(PASSWORD)
    await seen.button(words.sign_in).click()
    await expect(seen.page.locator(".hanlin-card").first).to_be_visible()


async def _adds_to_what_is_typed(seen: Visitor, words: Words) -> None:
    page = seen.page
    await seen.card("cards").click()
    await expect(page.locator(".hanlin-about h2").first).to_have_text(
        words("贺卡", "Greeting cards")
    )
    await expect(page.locator("#controls").get_by_role("combobox")).to_have_count(0)
    await seen.box.fill("祝姐姐生日快乐")
    shown = page.locator(".hanlin-preview")
    await expect(shown).to_contain_text("祝姐姐生日快乐")
    await page.get_by_role("radio", name="严肃").check()
    await expect(shown).to_contain_text("祝姐姐生日快乐，严肃风格")
    await expect(seen.box).to_have_value("祝姐姐生日快乐")
    await seen.box.press("Enter")
    await answered(seen, 1)
    await expect(page.locator("#chat .user.message")).to_have_text("祝姐姐生日快乐，严肃风格")
    await seen.reload()
    await answered(seen, 1)
    await fits(page)
    await seen.card("wishes").click()
    await expect(seen.answer.first).to_be_visible()


async def _converses(seen: Visitor, words: Words) -> None:
    page = seen.page
    await seen.card("wishes").click()
    await expect(seen.box).to_have_value("祝姐姐生日快乐")
    await page.get_by_role("radio", name="严肃").check()
    await expect(seen.box).to_have_value("祝姐姐生日快乐，严肃风格")
    await seen.box.press("Enter")
    await answered(seen, 1)
    await seen.button(words("重试", "Retry")).click()
    await answered(seen, 1)
    await seen.button(words("编辑", "Edit")).click()
    await page.locator("#chat textarea").fill("祝妹妹谈判顺利")
    await page.locator("#chat textarea").press("Enter")
    await expect(page.locator("#chat .user.message")).to_have_text("祝妹妹谈判顺利")
    await answered(seen, 1)
    await seen.button(words("随便来一个", "Surprise me")).click()
    await answered(seen, 2)
    await seen.button(words("新对话", "New conversation")).click()
    await expect(seen.answer).to_have_count(0)
    await expect(page.locator("#chat .example").first).to_be_visible()
    await fits(page)


async def _sets(seen: Visitor, words: Words) -> None:
    page = seen.page
    await seen.button(words("设置", "Settings")).click()
    longest = page.get_by_role("spinbutton", name=words("最长", "Longest"))
    await longest.fill("3")
    await longest.press("Tab")
    await expect(page.locator("#system textarea")).to_have_value(re.compile("送祝福大师"))
    await page.locator("#drawer .hanlin-close").click()
    await seen.send("祝姐姐生日快乐")
    await expect(seen.notice).to_contain_text(words("长度上限", "length limit"))
    await seen.button(words("设置", "Settings")).click()
    await seen.button(words("恢复原样", "Back to its own")).click()
    await expect(longest).to_have_value("256")
    await page.locator("#drawer .hanlin-close").click()


async def _judges(seen: Visitor, words: Words) -> None:
    page = seen.page
    await seen.button(words("赞", "Like")).last.click()
    await page.locator("#word input, #word textarea").fill("好")
    await page.locator("#word-send").click()
    await expect(page.locator(".toast-body")).to_contain_text(words("记下了", "Noted"))
    await expect(page.locator("#why")).to_be_hidden()


async def _compares(seen: Visitor, words: Words, house: RealHouse) -> None:
    page = seen.page
    await page.get_by_role("link", name=words("对照", "Compare"), exact=True).click()
    before = await house.tokens()
    await page.locator("#pair-message textarea").fill("祝姐姐生日快乐")
    await page.locator("#pair-message textarea").press("Enter")
    for side in ("left", "right"):
        await expect(page.locator(f"#side-{side} dd").nth(0)).to_contain_text(" s")
        await expect(page.locator(f"#side-{side} dd").nth(2)).to_contain_text("·")
        await expect(page.locator(f"#chat-{side} .bot.message")).not_to_be_empty()
    await expect(page.locator("#pair-message button.submit-button")).to_be_visible()
    await fits(page)
    after = await house.tokens()
    counted = [(after[key] - before.get(key, 0), key[0]) for key in sorted(after)]
    assert len({name for tokens, name in counted if tokens}) == 2
    shown = []
    for side in ("left", "right"):
        said = await page.locator(f"#side-{side} dd").nth(2).inner_text()
        assert "≈" not in said
        shown += [int(number) for number in re.findall(r"\d+", said)]
    assert sorted(shown) == sorted(tokens for tokens, _ in counted if tokens)


async def _looks_at_the_status(seen: Visitor, words: Words) -> None:
    page = seen.page
    await page.get_by_role("link", name=words("状态", "Status"), exact=True).click()
    await expect(page.locator(".hanlin-table tbody tr")).to_have_count(5)
    await expect(page.locator(".hanlin-chart svg.marks")).to_have_count(3)
    wishes = page.locator(".hanlin-table tbody tr", has_text=words("天机", "Tianji"))
    await expect(wishes.locator("td").nth(1)).to_have_text("1")
    await fits(page)
    await page.go_back()
    await page.go_back()
    await expect(page.locator(".hanlin-about h2").first).to_have_text(
        words("天机·送祝福", "Tianji wishes")
    )


async def test_an_engine_that_is_killed_is_waited_for_and_answers(
    real_house: RealHouse, browser: Browser
) -> None:
    async with visiting(browser, real_house.page, DESK) as seen:
        await _signs_in(seen, ZH, "?assistant=sui")
        await expect(seen.page.locator(".hanlin-about .ready")).to_be_visible()
        engines = [
            process
            for process in psutil.Process(real_house.process.pid).children(recursive=True)
            if any("/sui/" in word for word in process.cmdline()) and not _guards(process)
        ]
        assert engines
        for process in engines:
            process.kill()
        await seen.send("你是谁？")
        await expect(seen.answer).to_have_text(re.compile(r"\S"))
        await expect(seen.button("发送")).to_be_visible(timeout=60_000)
        await expect(seen.notice).to_have_count(0)


def _guards(process: psutil.Process) -> bool:
    """Whether it only sees to it that an engine ends with its host."""
    return "-I" in process.cmdline()
