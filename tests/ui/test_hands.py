"""Hands that are quicker, slower or other than expected: what they meant is what happens."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from serve.ui.texts import Texts, texts
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.test_conversation import language
from tests.ui.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def words_of(anyone: Visitor) -> Texts:
    return texts(language(anyone))


def sent(gateway: GatewayStub) -> list[str]:
    return [request["messages"][-1]["content"] for request in gateway.requests]


async def ready(seen: Visitor, name: str = "sui") -> None:
    """Open an assistant, and wait until one can write to it."""
    await seen.go(f"?assistant={name}")
    await expect(seen.page.locator("#message button.submit-button")).to_be_visible()


async def compose(page: Page, word: str, chosen: str) -> None:
    """Write with an input method: spell, end the word with Enter, and have it put in."""
    keyboard = await page.context.new_cdp_session(page)
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    end = len(word)
    await keyboard.send(
        "Input.imeSetComposition", {"text": word, "selectionStart": end, "selectionEnd": end}
    )
    await keyboard.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    await keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
    await keyboard.send("Input.insertText", {"text": chosen})


async def test_the_enter_of_an_input_method_sends_nothing(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page = anyone.page
    await ready(anyone)
    await anyone.box.focus()
    await compose(page, "ni", "你")
    await compose(page, "hao", "好")
    await expect(anyone.box).to_have_value("你好")
    await anyone.box.press("Enter")
    await anyone.whole(PLAIN)

    gateway.behaviour.text = "另一个回答"
    await page.locator("#chat .message-buttons-right button").last.click()
    edit = page.locator("#chat textarea")
    await edit.fill("")
    await compose(page, "zai", "再")
    await expect(edit).to_have_value("再")
    await edit.press("Enter")
    await expect(anyone.answer).to_have_text("另一个回答")
    assert sent(gateway) == ["你好", "再"]


async def test_a_double_click_sends_once_and_stops_nothing(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page = anyone.page
    gateway.behaviour.hold_after = 3
    await ready(anyone)
    await anyone.box.fill("你是谁？")
    box = await page.locator("#message button.submit-button").bounding_box()
    assert box
    place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await page.mouse.move(*place)
    await page.mouse.down(click_count=1)
    await page.mouse.up(click_count=1)
    await expect(page.locator("#message button.stop-button")).to_be_visible()
    await page.mouse.down(click_count=2)
    await page.mouse.up(click_count=2)
    gateway.go_on.set()
    await anyone.whole(PLAIN)
    await expect(anyone.notice).to_have_count(0)
    await anyone.box.fill("再来")
    await page.locator("#message button.submit-button").dblclick()
    await expect(anyone.answer).to_have_count(2)
    await expect(anyone.answer.last).to_have_text(PLAIN)
    await expect(page.locator("#message button.submit-button")).to_be_visible()
    assert sent(gateway) == ["你是谁？", "再来"]


async def test_asking_anew_twice_is_asking_anew(anyone: Visitor, gateway: GatewayStub) -> None:
    await ready(anyone)
    await anyone.send("你是谁？")
    await anyone.whole(PLAIN)
    gateway.behaviour.text = "另一个回答"
    await anyone.button(words_of(anyone).retry).dblclick()
    await expect(anyone.answer).to_have_text("另一个回答")
    await expect(anyone.page.locator("#message button.submit-button")).to_be_visible()
    await expect(anyone.page.locator("#chat .user.message")).to_have_count(1)
    assert sent(gateway) == ["你是谁？", "你是谁？"]


async def test_escape_leaves_a_message_as_it_was(anyone: Visitor, gateway: GatewayStub) -> None:
    await ready(anyone)
    await anyone.send("你是谁？")
    await anyone.whole(PLAIN)
    await anyone.button(words_of(anyone).edit).click()
    editing = anyone.page.locator("#chat textarea")
    await editing.fill("改到一半")
    await editing.press("Escape")
    await expect(editing).to_have_count(0)
    await expect(anyone.page.locator("#chat .user.message")).to_have_text("你是谁？")
    await anyone.whole(PLAIN)
    assert sent(gateway) == ["你是谁？"]


async def test_the_language_changes_while_an_answer_grows(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page, other = anyone.page, texts("en" if language(anyone) == "zh" else "zh")
    gateway.behaviour.hold_after = 5
    await ready(anyone)
    await anyone.send("你是谁？")
    await expect(anyone.answer).to_have_text(PLAIN[:5])
    await page.locator("#language").click()
    await expect(page.locator("#message button.stop-button")).to_have_text(other.stop)
    await expect(anyone.answer).to_have_text(PLAIN[:5])
    gateway.go_on.set()
    await anyone.whole(PLAIN)
    await expect(page.locator("#message button.submit-button")).to_have_text(other.send)
    await expect(anyone.notice).to_have_count(0)
    assert len(gateway.requests) == 1


async def test_a_book_that_is_pasted_troubles_nobody(anyone: Visitor, gateway: GatewayStub) -> None:
    page = anyone.page
    book = "一行字。\n" * 2_000
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await ready(anyone)
    await page.evaluate("text => navigator.clipboard.writeText(text)", book)
    await anyone.box.focus()
    await page.keyboard.press("ControlOrMeta+V")
    await expect(anyone.box).to_have_value(book)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.post_data or ""))
    await page.keyboard.type("再写几个字")
    await expect(anyone.box).to_have_value(f"{book}再写几个字")
    assert not [body for body in asked if "一行字" in body]  # no key waits for the server
    await expect(page.locator("#message button.submit-button")).to_be_in_viewport()
    await anyone.box.press("Enter")
    await anyone.whole(PLAIN)
    assert sent(gateway) == [f"{book}再写几个字"]
    await anyone.reload()
    await anyone.whole(PLAIN)


async def test_back_and_forth_quicker_than_the_page(anyone: Visitor, gateway: GatewayStub) -> None:
    page, where = anyone.page, anyone.page.locator(".hanlin-about h2").first
    titles = {model["id"]: model["title"][language(anyone)] for model in gateway.models}

    async def go_twice(step: str) -> None:
        """Both steps are taken before the page has followed the first."""
        await page.evaluate(
            """step => new Promise((arrived) => {
              addEventListener("popstate", () => {
                addEventListener("popstate", () => arrived(), { once: true });
                history[step]();
              }, { once: true });
              history[step]();
            })""",
            step,
        )

    await ready(anyone)
    await anyone.send("你是谁？")
    await anyone.whole(PLAIN)
    for name in ("exam", "wishes"):
        await anyone.card(name).click()
        await expect(where).to_have_text(titles[name])
    await go_twice("back")
    await expect(where).to_have_text(titles["sui"])
    await anyone.whole(PLAIN)
    await go_twice("forward")
    await expect(where).to_have_text(titles["wishes"])
    await expect(anyone.answer).to_have_count(0)
