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
    await expect(anyone.answer).to_have_text(PLAIN)
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
    await expect(anyone.answer).to_have_text(PLAIN)
    await expect(anyone.notice).to_have_count(0)


async def test_an_engine_that_takes_its_time_is_said_to(
    anyone: Visitor, words: Texts, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_after = 0
    await anyone.go("?assistant=sui")
    await anyone.send("你是谁？")
    await expect(anyone.notice).to_contain_text(begins(words.thinking))
    gateway.go_on.set()
    await expect(anyone.answer).to_have_text(PLAIN)


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
    await expect(anyone.answer).to_have_text(PLAIN)
    await expect(anyone.notice).to_have_count(0)


async def test_a_gateway_that_goes_is_a_sentence_and_comes_back(
    anyone: Visitor, words: Texts, page_process: PageProcess
) -> None:
    async with serving(GatewayStub(), page_process.gateway_port):
        await anyone.go("?assistant=sui")
        await anyone.send("你是谁？")
        await expect(anyone.answer).to_have_text(PLAIN)
    await anyone.send("还在吗？")
    await expect(anyone.notice).to_have_text(words.gone)
    trouble = anyone.page.locator(".hanlin-trouble")
    await expect(trouble).to_have_text(words.house_gone)
    async with serving(GatewayStub(), page_process.gateway_port):
        await expect(trouble).to_have_count(0)
        await anyone.button(words.retry).last.click()
        await expect(anyone.notice).to_have_count(0)
        await expect(anyone.answer).to_have_text([PLAIN, PLAIN])


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
