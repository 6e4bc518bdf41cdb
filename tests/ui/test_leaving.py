"""Assistants that leave the house while somebody talks to them, and come back."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from serve.ui.texts import texts
from tests.ui.gateway_stub import PLAIN, GatewayStub, house
from tests.ui.test_conversation import language
from tests.ui.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def asked(seen: Visitor, words: str, answers: int) -> None:
    await seen.send(words)
    await expect(seen.answer).to_have_count(answers)
    await expect(seen.answer.last).to_have_text(PLAIN)
    await expect(seen.page.locator("#message button.submit-button")).to_be_visible()


async def test_the_two_side_by_side_are_there_again(anyone: Visitor, gateway: GatewayStub) -> None:
    page, words = anyone.page, texts(language(anyone))
    trouble, box = page.locator("#pair .hanlin-trouble"), page.locator("#pair-message textarea")
    left = page.locator("#pick-left input")
    await anyone.go("?view=pair&left=sui&right=wishes")
    title = {"zh": "隋朝那些事儿", "en": "The Sui dynasty"}[language(anyone)]
    await expect(left).to_have_value(title)
    await box.fill("第一句")
    await box.press("Enter")
    for side in ("left", "right"):
        await expect(page.locator(f"#chat-{side} .bot.message")).to_have_text(PLAIN)
    gateway.models.clear()
    await expect(trouble).to_have_text(words.house_empty)
    await expect(left).to_have_value("sui")
    await page.locator("#pair-below").get_by_role("button", name=words.surprise).click()
    gateway.models.extend(house())
    await expect(trouble).to_have_count(0)
    await expect(left).to_have_value(title)
    await box.fill("第二句")
    await box.press("Enter")
    for side in ("left", "right"):
        await expect(page.locator(f"#chat-{side} .bot.message")).to_have_text([PLAIN, PLAIN])
    assert sorted(r["model"] for r in gateway.requests) == ["sui", "sui", "wishes", "wishes"]
    await expect(page.locator(".toast-body")).to_have_count(0)


async def test_one_of_two_who_is_gone_is_named_and_the_other_answers(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page, words = anyone.page, texts(language(anyone))
    trouble, box = page.locator("#pair .hanlin-trouble"), page.locator("#pair-message textarea")
    await anyone.go("?view=pair&left=sui&right=wishes&prompt=你好")
    await expect(box).to_have_value("你好")
    gateway.models[:] = [model for model in gateway.models if model["id"] != "sui"]
    await expect(trouble).to_have_text(words.unknown.format(name="sui"))
    await box.press("Enter")
    await expect(page.locator("#chat-left .hanlin-notice")).to_have_text(words.unknown_model)
    await expect(page.locator("#chat-right .bot.message")).to_have_text(PLAIN)
    await expect(page.locator("#pair-message button.submit-button")).to_be_visible()
    await page.locator("#pick-left input").click()
    await page.get_by_role("option").first.click()
    await expect(trouble).to_have_count(0)
    await box.fill("再来")
    await box.press("Enter")
    for side in ("left", "right"):
        await expect(page.locator(f"#chat-{side} .bot.message")).to_have_text(PLAIN)
    assert [r["model"] for r in gateway.requests][:1] == ["wishes"]
    assert sorted(r["model"] for r in gateway.requests[1:]) == ["exam", "wishes"]
    await expect(page.locator(".toast-body")).to_have_count(0)


async def test_a_conversation_is_there_again_with_all_that_was_said(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    trouble = anyone.page.locator("#cards .hanlin-trouble")
    await anyone.go("?assistant=sui")
    await asked(anyone, "第一句", 1)
    await anyone.card("exam").click()  # what has been said so far is put aside
    await expect(anyone.answer).to_have_count(0)
    await anyone.card("sui").click()
    await expect(anyone.answer).to_have_count(1)
    await asked(anyone, "第二句", 2)
    await anyone.box.fill("写到一半")
    gateway.models.clear()
    await expect(trouble).to_be_visible()
    await expect(anyone.page.locator("#room")).to_be_hidden()
    gateway.models.extend(house())
    await expect(trouble).to_have_count(0)
    await anyone.whole(PLAIN, PLAIN)
    await expect(anyone.box).to_have_value("写到一半")
    gateway.models.clear()
    await expect(trouble).to_be_visible()
    await anyone.reload()
    await expect(trouble).to_be_visible()
    gateway.models.extend(house())
    await anyone.whole(PLAIN, PLAIN)
    await expect(anyone.box).to_have_value("写到一半")
