"""What goes wrong behind the page is a sentence in the conversation, in the reader's language."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from serve.ui.texts import Texts, texts
from tests.ui.conftest import PageProcess, serving
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.test_conversation import language
from tests.ui.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

LONG = "长" * 10_000


@pytest.fixture
def words(anyone: Visitor) -> Texts:
    """The page in the visitor's language."""
    return texts(language(anyone))


def begins(sentence: str) -> str:
    """A sentence as far as its first number."""
    return sentence.partition("{")[0]


async def test_ten_thousand_characters_are_sent_whole_and_refused_in_a_sentence(
    anyone: Visitor, words: Texts, gateway: GatewayStub
) -> None:
    page = anyone.page
    await anyone.go("?assistant=sui")
    await anyone.send(LONG)
    await anyone.whole(PLAIN)
    assert gateway.requests[-1]["messages"][-1]["content"] == LONG
    width = (page.viewport_size or {})["width"]
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    gateway.behaviour.status, gateway.behaviour.code = 400, "context_length_exceeded"
    gateway.behaviour.refusals = -1
    await anyone.button(words.retry).click()
    await expect(anyone.notice).to_have_text(words.too_long)


async def test_a_loading_engine_shows_how_far_it_is(
    anyone: Visitor, words: Texts, gateway: GatewayStub
) -> None:
    gateway.behaviour.comments = True
    await anyone.go("?assistant=exam")
    await anyone.send("世界上最大的宫殿是")
    await expect(anyone.notice).to_contain_text(begins(words.loading))
    gateway.models[0]["state"] = "ready"
    gateway.go_on.set()
    await anyone.whole(PLAIN)
    await expect(anyone.notice).to_have_count(0)


async def test_an_engine_that_takes_its_time_is_said_to(
    anyone: Visitor, words: Texts, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_after = 0
    await anyone.go("?assistant=sui")
    await anyone.send("你是谁？")
    await expect(anyone.notice).to_contain_text(begins(words.thinking))
    gateway.go_on.set()
    await anyone.whole(PLAIN)


async def test_an_engine_that_dies_leaves_what_came_and_is_asked_again(
    anyone: Visitor, words: Texts, gateway: GatewayStub
) -> None:
    gateway.behaviour.die_after = 6
    await anyone.go("?assistant=sui")
    await anyone.send("你是谁？")
    await expect(anyone.notice).to_have_text(words.broke_off)
    await expect(anyone.answer.first).to_contain_text(PLAIN[:6])
    gateway.behaviour.die_after = None
    await anyone.button(words.retry).last.click()
    await anyone.whole(PLAIN)
    await expect(anyone.notice).to_have_count(0)


async def test_a_gateway_that_goes_is_a_sentence_and_comes_back(
    anyone: Visitor, words: Texts, page_process: PageProcess
) -> None:
    async with serving(GatewayStub(), page_process.gateway_port):
        await anyone.go("?assistant=sui")
        await anyone.send("你是谁？")
        await anyone.whole(PLAIN)
    await anyone.send("还在吗？")
    await expect(anyone.notice).to_have_text(words.gone)
    trouble = anyone.page.locator(".hanlin-trouble")
    await expect(trouble).to_have_text(words.house_gone)
    async with serving(GatewayStub(), page_process.gateway_port):
        await expect(trouble).to_have_count(0)
        await anyone.button(words.retry).last.click()
        await expect(anyone.notice).to_have_count(0)
        await anyone.whole(PLAIN, PLAIN)


async def test_a_key_that_is_refused_is_a_sentence_in_both_places(
    anyone: Visitor, words: Texts, gateway: GatewayStub
) -> None:
    await anyone.go("?assistant=sui")
    await expect(anyone.page.locator(".hanlin-about h2").first).to_be_visible()
    gateway.behaviour.locked = True
    await anyone.send("你是谁？")
    await expect(anyone.notice).to_have_text(words.locked)
    trouble = anyone.page.locator(".hanlin-trouble")
    await expect(trouble).to_have_text(words.house_locked)
    gateway.behaviour.locked = False
    await expect(trouble).to_have_count(0)


async def test_what_the_gateway_says_is_quoted_and_the_rest_follows_the_switch(
    anyone: Visitor, words: Texts, gateway: GatewayStub
) -> None:
    page, other = anyone.page, texts("en" if language(anyone) == "zh" else "zh")
    gateway.behaviour.status, gateway.behaviour.refusals = 400, -1
    gateway.behaviour.error = "'x' is no <field>."
    quote = page.locator('.hanlin-notice q[lang="en"]:visible')
    await anyone.go("?assistant=sui")
    await anyone.send("你是谁？")
    await expect(anyone.notice).to_have_text(f"{words.refused}'x' is no <field>.")
    await expect(quote).to_have_text("'x' is no <field>.")
    await page.locator("#language").click()
    await expect(anyone.notice).to_have_text(f"{other.refused}'x' is no <field>.")
    await anyone.card("wishes").click()
    await expect(anyone.notice).to_have_count(0)
    await page.locator("#language").click()
    await expect(anyone.button(words.send)).to_be_visible()
    await anyone.card("sui").click()  # what was put aside in the other language
    await expect(anyone.notice).to_have_text(f"{words.refused}'x' is no <field>.")
    await page.locator("#language").click()
    await expect(anyone.notice).to_have_text(f"{other.refused}'x' is no <field>.")
    await anyone.reload()
    await expect(quote).to_have_text("'x' is no <field>.")


async def test_both_sides_follow_the_switch(
    anyone: Visitor, words: Texts, gateway: GatewayStub
) -> None:
    page, other = anyone.page, texts("en" if language(anyone) == "zh" else "zh")
    gateway.behaviour.status, gateway.behaviour.refusals = 429, -1
    await anyone.go("?view=pair&left=sui&right=wishes&prompt=你好")
    box = page.locator("#pair-message textarea")
    await expect(box).to_have_value("你好")
    await box.press("Enter")
    notices = page.locator("#pair .hanlin-notice")
    await expect(notices).to_have_text([words.busy] * 2)
    await expect(page.locator("#pair-message button.submit-button")).to_be_visible()
    await page.locator("#language").click()
    await expect(notices).to_have_text([other.busy] * 2)
    await page.locator("#language").click()
    await expect(notices).to_have_text([words.busy] * 2)
