"""A page that is slower than the person at it: nothing written is lost, and what was meant last is
what happens."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Route, expect

from tests.ui.gateway_stub import PLAIN, GatewayStub, letters
from tests.ui.test_hands import ready, sent
from tests.ui.visitor import Visitor, soon

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

DEAF = "addEventListener('input', (event) => event.stopImmediatePropagation(), { capture: true })"
"""Gradio hears of nothing that is written from now on, as where it has not come round to it."""


async def test_what_is_just_written_outlives_a_reload(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page = anyone.page
    await ready(anyone)
    await anyone.send("你是谁？")
    await anyone.whole(PLAIN)
    await page.locator("#settings").click()
    await page.evaluate(DEAF)
    await page.locator("#system textarea").fill("你是一位诗人。")
    await page.locator("#drawer .hanlin-close").click()
    await anyone.box.press_sequentially("写到一半")
    await anyone.reload()
    await expect(anyone.box).to_have_value("写到一半")
    await expect(page.locator("#system textarea")).to_have_value("你是一位诗人。")
    await anyone.whole(PLAIN)
    await anyone.card("wishes").click()
    await expect(anyone.box).to_have_value("祝姐姐生日快乐")  # it is nobody else's


async def test_what_is_just_written_to_both_outlives_a_reload(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page, box = anyone.page, anyone.page.locator("#pair-message textarea")
    await anyone.go("?view=pair&left=sui&right=wishes")
    await expect(page.locator("#pair-message button.submit-button")).to_be_visible()
    await page.evaluate(DEAF)
    await box.fill("写到一半")
    await anyone.go("?view=pair")
    await expect(box).to_have_value("写到一半")
    await page.reload()
    await expect(box).to_have_value("写到一半")


async def test_what_is_written_on_while_a_message_is_on_its_way_stays(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    gateway.models.append(letters())
    await ready(anyone, "letters")
    await expect(anyone.page.locator(".hanlin-preview")).to_contain_text("写一封信，，")
    await anyone.box.fill("第一句")
    await expect(anyone.page.locator(".hanlin-preview")).to_contain_text("第一句")
    gateway.behaviour.hold_prompts = True
    gateway.prompted.clear()
    await anyone.box.press("Enter")
    await soon(gateway.prompted)  # it is on its way, and not yet shown
    await anyone.box.press_sequentially("第二句")
    gateway.go_on.set()
    await anyone.whole(PLAIN)
    await expect(anyone.box).to_have_value("第二句")
    await anyone.box.press("Enter")
    await anyone.whole(PLAIN, PLAIN)
    await expect(anyone.box).to_have_value("")
    assert sent(gateway) == [f"写一封信，{words}，语气亲切" for words in ("第一句", "第二句")]


async def test_a_prompt_that_comes_late_does_not_replace_what_is_written(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    await ready(anyone, "wishes")
    await expect(anyone.box).to_have_value("祝姐姐生日快乐")
    gateway.behaviour.hold_prompts = True
    gateway.prompted.clear()
    await anyone.page.get_by_role("radio", name="小红书").check()
    await soon(gateway.prompted)
    await anyone.box.fill("自己写的")
    gateway.go_on.set()
    await anyone.told()
    await expect(anyone.box).to_have_value("自己写的")
    await anyone.page.get_by_role("radio", name="严肃").check()  # asked for again
    await expect(anyone.box).to_have_value("祝姐姐生日快乐，严肃风格")


async def test_a_proposal_that_comes_late_is_made_again_when_asked_for(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_prompts = True
    await ready(anyone, "wishes")
    await soon(gateway.prompted)
    await anyone.card("sui").click()
    await expect(anyone.page.locator("#controls fieldset")).to_have_count(0)
    gateway.go_on.set()
    await anyone.told()
    await expect(anyone.box).to_have_value("")  # it was not for this one
    await anyone.card("wishes").click()
    await expect(anyone.box).to_have_value("祝姐姐生日快乐")


async def test_of_two_steps_at_once_the_second_is_where_one_is(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page = anyone.page
    await ready(anyone)
    await anyone.send("你是谁？")
    await anyone.whole(PLAIN)
    await page.evaluate(
        "['.hanlin-card[data-assistant=wishes]', '.hanlin-bar a[href*=status]']"
        ".forEach((link) => document.querySelector(link).click())"
    )
    await expect(page.locator(".hanlin-table")).to_be_visible()
    await page.locator(".hanlin-bar a").first.click()
    await expect(anyone.box).to_have_value("祝姐姐生日快乐")
    await expect(anyone.answer).to_have_count(0)
    await anyone.card("sui").click()
    await anyone.whole(PLAIN)


async def test_whatever_draws_the_page_is_asked_for_one_after_another(
    zh: Visitor, gateway: GatewayStub
) -> None:
    page, first, go_on = zh.page, asyncio.Event(), asyncio.Event()
    about, bar = page.locator(".hanlin-about"), page.locator(".hanlin-bar")
    seen: list[tuple[str | None, str | None]] = []

    async def note(route: Route) -> None:
        """What is drawn when the next is asked for; the first is kept waiting."""
        told = route.request.post_data_json or {}
        if "step" in (told.get("event_data") or {}):
            whose = await about.get_attribute("data-assistant")
            seen.append((await bar.get_attribute("data-step"), whose))
            first.set()
            await go_on.wait()
        await route.continue_()

    await ready(zh)
    await page.route("**/queue/join*", note)
    await page.evaluate(
        """() => {
          document.querySelector(".hanlin-card[data-assistant=wishes]").click();
          document.querySelector("#language").click();
          window.hanlin.refresh();
        }"""
    )
    await soon(first)
    await page.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
    go_on.set()
    await expect(bar).to_have_attribute("data-step", "3")
    assert seen == [("0", "sui"), ("1", "wishes"), ("2", "wishes")]
    await expect(about.locator("h2")).to_have_text("Tianji wishes")
    await expect(zh.box).to_have_value("祝姐姐生日快乐")
    await expect(page.locator("#language")).to_have_text("中文")


async def test_while_an_answer_grows_nothing_else_is_asked(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_after = 4
    surprise = anyone.page.locator("#surprise")
    await ready(anyone)
    await expect(surprise).to_be_visible()
    await anyone.send("你是谁？")
    await expect(anyone.answer).to_have_text(PLAIN[:4])
    await expect(surprise).to_be_hidden()
    await surprise.dispatch_event("click")  # as one that was under way
    await anyone.box.fill("接着说")
    await anyone.box.press("Enter")
    gateway.go_on.set()
    await anyone.whole(PLAIN)
    await expect(surprise).to_be_visible()
    await expect(anyone.box).to_have_value("接着说")
    await anyone.box.press("Enter")  # the button is there, so it is sent
    await anyone.whole(PLAIN, PLAIN)
    assert sent(gateway) == ["你是谁？", "接着说"]


async def test_send_is_there_once_it_really_sends(anyone: Visitor, gateway: GatewayStub) -> None:
    gateway.behaviour.hold_after = 4
    await ready(anyone)
    await anyone.send("你是谁？")
    await expect(anyone.answer).to_have_text(PLAIN[:4])
    await anyone.box.fill("接着说")
    await anyone.page.evaluate(
        """() => new MutationObserver((_, watching) => {
          const send = document.querySelector("#message button.submit-button");
          if (!send) return;
          watching.disconnect();
          send.click();  // by a hand that nothing can be quicker than
        }).observe(document.body, { childList: true, subtree: true })"""
    )
    gateway.go_on.set()
    await anyone.whole(PLAIN, PLAIN)
    assert sent(gateway) == ["你是谁？", "接着说"]


async def test_stop_that_comes_too_late_says_nothing(anyone: Visitor, gateway: GatewayStub) -> None:
    page = anyone.page
    await ready(anyone)
    # The button is there for a moment after the last word; here, until it is pressed.
    await page.evaluate("window.hanlin.hands.ready = () => { window.whole = true; }")
    await anyone.send("你是谁？")
    await page.wait_for_function("window.whole")
    await expect(anyone.answer).to_have_text(PLAIN)
    await page.locator("#message button.stop-button").click()
    await anyone.whole(PLAIN)
    await expect(anyone.notice).to_have_count(0)
