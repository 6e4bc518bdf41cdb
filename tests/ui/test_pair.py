"""Two side by side: both are asked at once, both grow, and both are measured."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import expect

from serve.ui.figures import NOTHING_YET, Figures
from serve.ui.house import Assistant, Glance
from serve.ui.pair.desk import choice, examples, figures
from serve.ui.pair.race import both
from tests.ui.gateway_stub import PLAIN, GatewayStub, assistant
from tests.ui.visitor import Visitor, soon

TEXT = {"zh": "名", "en": "Name"}
OTHER = {"zh": "他", "en": "Other"}


def one(name: str, title: dict[str, str] = TEXT, **more: object) -> Assistant:
    return Assistant(id=name, title=title, description=TEXT, **more)


def test_two_workspaces_of_one_model_are_what_is_compared_first() -> None:
    glance = Glance((one("exam", OTHER), one("wishes"), one("poetry", OTHER), one("wishes-awq")))
    assert choice(glance, "", "") == ("exam", "poetry")
    assert choice(glance, "wishes", "") == ("wishes", "wishes-awq")
    assert choice(glance, "wishes-awq", "exam") == ("wishes-awq", "exam")
    assert choice(glance, "nobody", "") == ("nobody", "exam")  # who was picked may come back
    assert choice(glance, "nobody", "nobody") == ("nobody", "nobody")
    assert choice(Glance((one("alone"),)), "", "") == ("alone", "alone")
    assert choice(Glance(), "a", "b") == ("a", "b")


def test_examples_of_both_are_offered_once() -> None:
    left, right = one("a", examples=("一", "二")), one("b", examples=("二", "三"))
    assert examples((left, right)) == ["一", "二", "三"]
    assert examples((left, None)) == ["一", "二"]


class _Usage:
    prompt_tokens, completion_tokens, estimated = 7, 21, True


def test_figures_are_of_the_tokens_after_the_first() -> None:
    heard = NOTHING_YET.heard(0.1, "", None).heard(0.5, "一", None).heard(2.5, "一二", None)
    assert (heard.first, heard.last, heard.per_second) == (0.5, 2.5, None)
    counted = heard.heard(2.6, "一二", _Usage())
    assert counted == Figures(0.5, 2.5, 7, 21, estimated=True)
    assert counted.per_second == 10
    shown = figures(counted, "en")
    assert "0.50 s" in shown
    assert "≈10.0 tok/s" in shown
    assert "≈7 in · 21 out" in shown
    assert figures(None, "zh").count("–") == 3


@pytest.mark.parametrize(("first", "last", "speed"), [(0.4, 0.41, 51.2), (0.4, 0.4, 52.5)])
def test_tokens_that_come_together_were_made_while_the_first_was_waited_for(
    first: float, last: float, speed: float
) -> None:
    counted = NOTHING_YET.heard(first, "一", None).heard(last, "二", _Usage())
    heard = counted.heard(last, "二", None)
    assert heard.per_second == pytest.approx(speed, rel=1e-3)


async def counting(steps: int, gate: asyncio.Event, seen: list[str]) -> AsyncGenerator[int]:
    try:
        for step in range(steps):
            yield step
        await gate.wait()
        yield steps
    finally:
        seen.append(f"closed {steps}")


async def test_the_latest_of_both_is_shown_until_both_have_ended() -> None:
    at_once, later, seen = asyncio.Event(), asyncio.Event(), []
    at_once.set()
    shown = []
    async for pair in both(counting(1, at_once, seen), counting(3, later, seen), pause=0.01):
        shown.append(pair)
        if "closed 1" in seen:  # the one that was quicker has ended; the other has not
            later.set()
    assert shown[-1] == (1, 3)
    assert sorted(seen) == ["closed 1", "closed 3"]


async def test_closing_closes_both() -> None:
    gate, seen = asyncio.Event(), []
    race = both(counting(1, gate, seen), counting(2, gate, seen), pause=0)
    await anext(race)
    await race.aclose()
    assert sorted(seen) == ["closed 1", "closed 2"]


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_one_prompt_goes_to_both_and_both_are_measured(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page = anyone.page
    gateway.models.append(assistant("sui-awq", "隋朝那些事儿", "The Sui dynasty"))
    await anyone.go("?view=pair&left=sui&prompt=你是谁？")
    box = page.locator("#pair-message textarea")
    await expect(box).to_have_value("你是谁？")
    await expect(page.locator("#pick-left input")).to_have_value(
        "隋朝那些事儿 · sui" if page.viewport_size["width"] == 1280 else "The Sui dynasty · sui"
    )
    purpose = page.locator("#chat-left .hanlin-greeting")
    await expect(purpose).to_contain_text(re.compile("隋代诗歌的小助手|poems of the Sui dynasty"))
    await box.press("Enter")
    for side in ("left", "right"):
        await expect(page.locator(f"#chat-{side} .bot.message")).to_have_text(PLAIN)
        await expect(page.locator(f"#side-{side} dd").nth(0)).to_contain_text(" s")
        await expect(page.locator(f"#side-{side} dd").nth(2)).to_contain_text(str(len(PLAIN)))
    assert sorted(r["model"] for r in gateway.requests) == ["sui", "sui-awq"]
    assert all(r["messages"][-1]["content"] == "你是谁？" for r in gateway.requests)
    assert (
        await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    )


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_both_are_stopped_and_share_their_sampling_if_asked(
    zh: Visitor, gateway: GatewayStub
) -> None:
    page = zh.page
    gateway.behaviour.hold_after = 5
    await zh.go("?view=pair&left=sui&right=wishes")
    await page.get_by_label("两边采样相同").check()
    number = page.get_by_role("spinbutton", name="温度")
    await number.fill("0.3")
    await number.press("Tab")
    box = page.locator("#pair-message textarea")
    await box.fill("你好")
    await box.press("Enter")
    for side in ("left", "right"):
        await expect(page.locator(f"#chat-{side} .bot.message")).to_have_text(PLAIN[:5])
    await page.keyboard.press("Escape")
    for side in ("left", "right"):
        await expect(page.locator(f"#chat-{side} .hanlin-notice")).to_have_text("（已停止）")
    await soon(gateway.closed)
    assert [r["temperature"] for r in gateway.requests] == [0.3, 0.3]
    gateway.behaviour.hold_after = None
    await page.locator("#pair-below").get_by_role("button", name="新对话").click()
    await expect(page.locator("#pair .bot.message")).to_have_count(0)
    await page.get_by_label("两边采样相同").uncheck()
    await page.locator("#pair-below").get_by_role("button", name="随便来一个").click()
    await expect(page.locator("#chat-right .bot.message")).to_have_text(PLAIN)
    assert "temperature" not in gateway.requests[-1]
