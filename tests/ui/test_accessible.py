"""Who sees, hears or moves differently can use the page: axe on every view, the keyboard alone, and
what a screen reader is told."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Locator, Page, expect

from tests.ui.conftest import PageProcess
from tests.ui.gateway_stub import PLAIN, GatewayStub, letters
from tests.ui.test_conversation import language
from tests.ui.visitor import DESK, PHONE, SIGNED_OUT, Visitor, visiting

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MOST_TABS = 40
"""No part of a view is further away than so many presses of the Tab key."""

SEEN = """() => {
  const drawn = (e) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(e);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  };
  let e = document.activeElement;
  for (let up = 0; e && up < 5; up += 1, e = e.parentElement) if (drawn(e)) return true;
  return false;
}"""
"""Whether what has the focus shows it, itself or as the frame around it."""


SMALL = """() => [...document.querySelectorAll("a, button, label:has(> input), [type=range]")]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().width > 1)
  .filter((e) => Math.min(e.getBoundingClientRect().width, e.getBoundingClientRect().height) < 40)
  .map((e) => e.outerHTML.slice(0, 160))"""
"""What is less than 40 px wide or high, of all that is there to be touched."""


async def flawless(page: Page) -> None:
    """axe finds nothing, among all of its rules."""
    found = await Axe().run(page)
    assert not found.response["violations"], found.generate_report()


async def home(seen: Visitor, _: GatewayStub) -> None:
    await seen.go()
    await expect(seen.card("exam")).to_be_visible()


async def empty_house(seen: Visitor, gateway: GatewayStub) -> None:
    gateway.models.clear()
    await seen.go()
    await expect(seen.page.locator(".hanlin-card")).to_have_count(0)
    await expect(seen.page.locator(".hanlin-trouble")).to_be_visible()


async def locked_out(seen: Visitor, gateway: GatewayStub) -> None:
    gateway.behaviour.locked = True
    await seen.go()
    await expect(seen.page.locator(".hanlin-trouble")).to_contain_text("HANLIN_KEY")


async def examples(seen: Visitor, _: GatewayStub) -> None:
    await seen.go("?assistant=wishes")
    await expect(seen.page.locator("#chat .example")).to_have_count(3)
    await expect(seen.page.locator("#controls fieldset")).to_be_visible()
    await expect(seen.box).not_to_have_value("")


async def thumbs(seen: Visitor, _: GatewayStub) -> None:
    await seen.go("?assistant=sui")
    await seen.send("你是谁？")
    await seen.whole(PLAIN)
    await seen.page.locator("#chat .message-buttons-left button").last.click()
    await expect(seen.page.locator("#why")).to_be_visible()


async def markdown(seen: Visitor, gateway: GatewayStub) -> None:
    gateway.behaviour.text = (
        "## 一\n\n| 甲 | 乙 |\n|-|-|\n| 1 | 2 |\n\n`丙` [丁](https://a.invalid)\n"
    )
    await seen.go("?assistant=sui")
    await seen.send("你是谁？")
    await expect(seen.answer.locator("table")).to_be_visible()


async def refused(seen: Visitor, gateway: GatewayStub) -> None:
    gateway.behaviour.status, gateway.behaviour.refusals = 429, -1
    await seen.go("?assistant=sui")
    await seen.send("你是谁？")
    await expect(seen.notice).to_be_visible()


async def loading(seen: Visitor, gateway: GatewayStub) -> None:
    gateway.behaviour.status, gateway.behaviour.refusals = 503, -1
    await seen.go("?assistant=exam")
    await seen.send("世界上最大的宫殿是")
    await expect(seen.notice).to_be_visible()


async def drawer(seen: Visitor, gateway: GatewayStub) -> None:
    gateway.models.append(letters())
    await seen.go("?assistant=letters")
    await expect(seen.page.locator("#controls fieldset")).to_be_visible()
    await expect(seen.page.locator(".hanlin-preview")).to_be_visible()
    await seen.box.fill("我平安")
    await expect(seen.page.locator(".hanlin-preview")).to_contain_text("我平安")
    await seen.page.locator("#settings").click()
    await expect(seen.page.locator("#drawer .hanlin-system")).to_be_visible()


async def side_by_side(seen: Visitor, _: GatewayStub) -> None:
    await seen.go("?view=pair&left=wishes&right=sui&prompt=祝姐姐生日快乐")
    await expect(seen.page.locator("#pair-message textarea")).not_to_have_value("")
    await flawless(seen.page)
    await seen.page.locator("#pair-message textarea").press("Enter")
    await expect(seen.page.locator("#side-right dd").nth(2)).to_contain_text("·")
    await seen.page.locator("#same input").check()
    await expect(seen.page.locator("#pair-sampling")).to_be_visible()


async def status(seen: Visitor, _: GatewayStub) -> None:
    await seen.go("?view=status")
    await expect(seen.page.locator(".hanlin-chart svg.marks")).to_have_count(3)


View = Callable[[Visitor, GatewayStub], Awaitable[None]]
VIEWS: tuple[View, ...] = (
    home, empty_house, locked_out, examples, thumbs, markdown, refused, loading, drawer,
    side_by_side, status,
)  # fmt: skip


TOUCHED = (home, examples, thumbs, drawer, side_by_side, status)
"""Between them they have all that a finger can touch."""


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
async def test_axe_finds_nothing_and_a_finger_hits_everything(
    anyone: Visitor, gateway: GatewayStub, view: View
) -> None:
    await view(anyone, gateway)
    await flawless(anyone.page)
    if view in TOUCHED and language(anyone) == "en":  # who has a phone
        assert await anyone.page.evaluate(SMALL) == []


@pytest.mark.parametrize("look", [DESK, PHONE], ids=["desk", "phone"])
async def test_axe_finds_nothing_on_the_way_in(
    browser: Browser, guarded: PageProcess, look: dict[str, object]
) -> None:
    async with visiting(browser, guarded.url, look) as seen:
        await seen.go()
        await flawless(seen.page)
        await seen.page.locator("input[name=name]").fill("ada")
        await seen.page.locator("input[name=password]").fill("wrong")
        seen.meant.append(SIGNED_OUT)  # the browser itself tells its console of it
        await seen.page.keyboard.press("Enter")
        await expect(seen.page.get_by_role("alert")).to_be_visible()
        await flawless(seen.page)


async def tab_to(page: Page, goal: Locator, key: str = "Tab") -> None:
    """Go on until it has the focus; wherever the focus is on the way, it can be seen."""
    for _ in range(MOST_TABS):
        await page.keyboard.press(key)
        where = await page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        assert await page.evaluate(SEEN), f"the focus cannot be seen on {where}"
        if await goal.evaluate("goal => goal.contains(document.activeElement)"):
            return
    pytest.fail(f"{goal} is not reached, the last was {where}")


async def test_the_keyboard_is_enough(zh: Visitor, gateway: GatewayStub) -> None:
    page = zh.page
    await zh.go()
    await expect(zh.card("wishes")).to_be_visible()
    for goal in ("#brand a", "#bar a:last-of-type", "#language", "#theme"):
        await tab_to(page, page.locator(goal))
    await tab_to(page, zh.card("wishes"))
    await page.keyboard.press("Enter")
    await expect(zh.box).to_have_value("祝姐姐生日快乐")
    await expect(zh.box).to_be_focused()
    await expect(page.get_by_role("radio", name="正常")).to_be_visible()
    await tab_to(page, page.get_by_role("radio", name="正常"), "Shift+Tab")
    await page.keyboard.press("ArrowRight")
    await expect(zh.box).to_have_value("祝姐姐生日快乐，小红书风格")
    await tab_to(page, page.get_by_label("送给谁"), "Shift+Tab")
    await tab_to(page, page.locator("#chat .example").first, "Shift+Tab")
    await page.keyboard.press("Enter")
    await zh.whole(PLAIN)

    await tab_to(page, page.locator("#settings"))
    await page.keyboard.press("Enter")
    await expect(page.locator("#drawer .hanlin-close")).to_be_focused()
    await tab_to(page, page.locator("#system textarea"))
    await page.keyboard.press("Escape")
    await expect(page.locator("#drawer")).to_be_hidden()
    await expect(page.locator("#settings")).to_be_focused()

    await tab_to(page, page.get_by_role("link", name="状态"), "Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator(".hanlin-table")).to_be_visible()
    await expect(page.get_by_role("link", name="状态")).to_be_focused()


async def test_an_answer_is_said_once_when_it_is_whole(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    heard = anyone.page.locator(".hanlin-heard")
    gateway.behaviour.hold_after = 4
    await anyone.go("?assistant=sui")
    await anyone.send("你是谁？")
    await expect(anyone.answer).to_have_text(PLAIN[:4])
    await expect(heard).to_have_text(re.compile("^(正在回答……|Answering…)$"))
    await expect(anyone.page.get_by_role("log").first).to_have_attribute("aria-live", "off")
    gateway.go_on.set()
    await expect(heard).to_have_text(PLAIN)


async def test_an_engine_that_loads_is_heard_and_so_are_both_sides(
    zh: Visitor, gateway: GatewayStub
) -> None:
    heard = zh.page.locator(".hanlin-heard")
    gateway.behaviour.status, gateway.behaviour.refusals = 503, 2
    await zh.go("?assistant=exam")
    await zh.send("世界上最大的宫殿是")
    await expect(heard).to_contain_text("正在载入")
    await expect(heard).to_have_text(PLAIN)
    await zh.go("?view=pair&left=wishes&right=sui&prompt=你好")
    await expect(zh.page.locator("#pair-message textarea")).to_have_value("你好")
    await zh.page.locator("#pair-message textarea").press("Enter")
    await expect(heard).to_have_text(f"左边: {PLAIN} 右边: {PLAIN}")


async def test_what_a_screen_reader_finds(zh: Visitor, gateway: GatewayStub) -> None:
    await zh.go("?assistant=wishes")
    await zh.send("你好")
    await zh.whole(PLAIN)
    await expect(zh.page).to_have_title("天机·送祝福 · 翰林 Hanlin")
    await expect(zh.page.get_by_role("main")).to_match_aria_snapshot(
        f"""
        - heading "翰林 Hanlin" [level=1]
        - navigation "页面":
          - link "对话"
          - link "对照"
          - link "状态"
        - button "English"
        - button "明暗"
        - navigation "全部助手"
        - heading "天机·送祝福" [level=2]
        - log "对话":
          - paragraph: 你好
          - button "复制"
          - button "编辑"
          - paragraph: {PLAIN}
          - button "复制"
          - button "重试"
          - button "踩"
          - button "赞"
        - combobox "送给谁（可自己写）"
        - combobox "为了什么（可自己写）"
        - group "风格":
          - radio "正常" [checked]
          - radio "小红书"
          - radio "严肃"
        - textbox "写给它的话"
        - button "发送"
        - button "新对话"
        - button "设置"
        - button "随便来一个"
        """
    )


async def test_who_asks_for_less_motion_gets_none(
    browser: Browser, page_process: PageProcess, gateway: GatewayStub
) -> None:
    moving = "document.getAnimations().length"
    async with visiting(browser, page_process.url, DESK) as seen:
        await home(seen, gateway)
        await expect(seen.page.locator(".hanlin-state.warming")).to_be_visible()
        assert await seen.page.evaluate(moving) > 0
        await seen.page.emulate_media(reduced_motion="reduce")
        assert await seen.page.evaluate(moving) == 0
