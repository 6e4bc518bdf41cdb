"""What Gradio's own buttons are called follows the page's language, whatever the browser's is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from serve.ui.labels import LOCALES, LOST, WORDS, labels
from serve.ui.texts import EN, ZH, Texts
from tests.ui.conftest import PageProcess
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.visitor import DESK, Visitor, visiting

SCRIPTS = re.compile(r'"\./lang/([\w-]+)\.json"')


def test_every_language_of_gradio_and_every_word_is_known() -> None:
    found = importlib.util.find_spec("gradio")
    assert found
    assert found.origin
    assets = Path(found.origin).parent / "templates" / "frontend" / "assets"
    (core,) = assets.glob("core-*.js")
    script = core.read_text(encoding="utf-8")
    assert set(SCRIPTS.findall(script)) == set(LOCALES)
    for name, word in WORDS.items():
        assert f"{name.removeprefix('chatbot.')}:`{word}`" in script, name
    assert {*WORDS.values()} <= labels(EN).keys()
    assert any(LOST in blocks.read_text(encoding="utf-8") for blocks in assets.glob("Blocks-*.js"))


async def said(seen: Visitor, words: Texts) -> None:
    """Every label in the conversation is the page's own word."""
    chat = seen.page.locator("#chat")
    for word in (words.edit, words.retry, words.like, words.dislike):
        await expect(chat.get_by_role("button", name=word, exact=True)).to_have_count(1)
        await expect(chat.get_by_title(word, exact=True)).to_have_count(1)
    await expect(chat.get_by_role("button", name=words.copy, exact=True)).to_have_count(2)
    await expect(seen.page.get_by_role("log", name=words.conversation)).to_have_count(1)
    await expect(chat.get_by_label(f"{words.it_said}{PLAIN}")).to_have_count(1)


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("locale", ["zh-CN", "en-GB", "fr-FR", "zh-HK"])
async def test_labels_follow_the_switch(
    locale: str, browser: Browser, page_process: PageProcess, gateway: GatewayStub
) -> None:
    first, then = (ZH, EN) if locale.startswith("zh") else (EN, ZH)
    async with visiting(browser, page_process.url, {**DESK, "locale": locale}) as seen:
        page = seen.page
        await seen.go("?assistant=sui")
        await seen.send("你是谁？")
        await seen.whole(PLAIN)
        await said(seen, first)
        await page.locator("#language").click()
        await said(seen, then)
        await seen.button(then.retry).click()  # drawn anew
        await expect(page.locator("#message button.submit-button")).to_be_visible()
        await said(seen, then)
        await seen.button(then.edit).click()
        await expect(seen.button(then.cancel)).to_be_visible()
        await seen.button(then.cancel).click()
        await page.locator("#language").click()
        await said(seen, first)
        await page.locator("#settings").click()
        number = page.get_by_role("spinbutton", name=first.temperature, exact=True)
        await expect(number).to_be_visible()
