"""A conversation as people have one: copying, editing, asking anew, leaving and coming back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from playwright.async_api import expect

from serve.ui.texts import texts
from tests.ui.conftest import PageProcess
from tests.ui.gateway_stub import PLAIN, GatewayStub, letters, wishes
from tests.ui.visitor import Visitor, soon

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SURPRISE = {"zh": "随便来一个", "en": "Surprise me"}
EDIT = {"zh": "编辑", "en": "Edit"}
CHAT = {"zh": "对话", "en": "Chat"}
STATUS = {"zh": "状态", "en": "Status"}


def language(anyone: Visitor) -> str:
    return "zh" if (anyone.page.viewport_size or {}).get("width") == 1280 else "en"


async def test_an_answer_can_be_copied(anyone: Visitor, gateway: GatewayStub) -> None:
    await anyone.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await anyone.go("?assistant=sui")
    await anyone.send("你是谁？")
    await anyone.whole(PLAIN)
    await anyone.button({"zh": "复制", "en": "Copy"}[language(anyone)]).last.click()
    await expect(anyone.button({"zh": "已复制", "en": "Copied"}[language(anyone)])).to_be_visible()
    assert await anyone.page.evaluate("navigator.clipboard.readText()") == PLAIN


@pytest.mark.parametrize("secure", [True, False])
async def test_what_the_page_says_beside_an_answer_is_not_copied_with_it(
    secure: bool, zh: Visitor, gateway: GatewayStub
) -> None:
    await zh.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    if not secure:  # as where the page is not served by https
        await zh.page.add_init_script("delete Navigator.prototype.clipboard")
    gateway.behaviour.finish = "length"
    await zh.go("?assistant=sui")
    await zh.send("你是谁？")
    await expect(zh.notice).to_be_visible()
    pasted = zh.page.locator("#message textarea")
    for text in (PLAIN, texts("zh").busy):
        await expect(zh.button("重试")).to_be_visible()
        await expect(zh.button("已复制")).to_have_count(0)
        await zh.button("复制").last.click()
        await expect(zh.button("已复制")).to_be_visible()
        await pasted.press("ControlOrMeta+V")
        await expect(pasted).to_have_value(text)
        await pasted.fill("")
        gateway.behaviour.status, gateway.behaviour.refusals = 429, -1
        await zh.button("重试").click()
        await expect(zh.notice).to_have_text(texts("zh").busy)


async def test_what_was_asked_can_be_edited_and_sent_again(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    await anyone.go("?assistant=sui")
    for words in ("第一句", "第二句"):
        await anyone.send(words)
        await expect(anyone.answer.last).to_have_text(PLAIN)
        await expect(anyone.page.locator("#message button.submit-button")).to_be_visible()
    gateway.behaviour.text = "改过以后的回答"
    await anyone.button(EDIT[language(anyone)]).first.click()
    editing = anyone.page.locator("#chat textarea")
    await editing.fill("换一句")
    await editing.press("Enter")
    await expect(anyone.answer).to_have_count(1)  # the second round is gone
    await expect(anyone.answer).to_have_text("改过以后的回答")
    assert gateway.requests[-1]["messages"] == [{"role": "user", "content": "换一句"}]


async def test_while_an_answer_grows_there_is_nothing_to_press_but_stop(
    zh: Visitor, gateway: GatewayStub
) -> None:
    await zh.go("?assistant=sui")
    await zh.send("你是谁？")
    await zh.whole(PLAIN)
    gateway.behaviour.hold_after = 3
    await zh.button("重试").click()
    await expect(zh.answer).to_have_text(PLAIN[:3])
    await expect(zh.button("停止")).to_be_visible()
    for name in ("编辑", "重试", "随便来一个"):
        await expect(zh.page.get_by_role("button", name=name)).to_have_count(0)
    gateway.go_on.set()
    await zh.whole(PLAIN)
    for name in ("编辑", "重试", "随便来一个"):
        await expect(zh.button(name)).to_be_visible()


async def test_a_random_example_is_another_than_the_last(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    await anyone.go("?assistant=sui")
    asked = []
    for count in range(3):
        await anyone.button(SURPRISE[language(anyone)]).click()
        await expect(anyone.answer).to_have_count(count + 1)
        await expect(anyone.page.locator("#message button.submit-button")).to_be_visible()
        asked.append(gateway.requests[-1]["messages"][-1]["content"])
    offered = set(gateway.models[2]["examples"])
    assert set(asked) == offered
    assert all(one != other for one, other in pairwise(asked))


async def test_leaving_and_coming_back_finds_everything_as_it_was(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page = anyone.page
    await anyone.go("?assistant=sui")
    await anyone.send("你是谁？")
    await anyone.whole(PLAIN)
    await anyone.box.fill("写到一半")
    await anyone.card("wishes").click()
    await expect(anyone.answer).to_have_count(0)
    await expect(anyone.box).to_have_value("祝姐姐生日快乐")
    await page.go_back()
    await anyone.whole(PLAIN)
    await expect(anyone.box).to_have_value("写到一半")
    await page.get_by_role("link", name=STATUS[language(anyone)], exact=True).click()
    await expect(page.locator(".hanlin-table")).to_be_visible()
    await page.go_back()
    await anyone.whole(PLAIN)
    assert page.url.endswith("?assistant=sui")


async def test_an_answer_goes_on_while_the_status_is_looked_at(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_after = 4
    await anyone.go("?assistant=sui")
    await anyone.send("你是谁？")
    await expect(anyone.answer).to_have_text(PLAIN[:4])
    await anyone.page.get_by_role("link", name=STATUS[language(anyone)], exact=True).click()
    await expect(anyone.page.locator(".hanlin-table")).to_be_visible()
    gateway.go_on.set()
    await anyone.page.get_by_role("link", name=CHAT[language(anyone)], exact=True).click()
    await anyone.whole(PLAIN)


async def test_an_answer_that_is_left_for_another_assistant_is_stopped_and_says_so(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_after = 4
    await anyone.go("?assistant=sui")
    await anyone.send("你是谁？")
    await expect(anyone.answer).to_have_text(PLAIN[:4])
    await anyone.card("poetry").click()
    await soon(gateway.closed)
    await anyone.card("sui").click()
    await expect(anyone.answer.first).to_contain_text(PLAIN[:4])
    await expect(anyone.notice).to_have_text(texts(language(anyone)).stopped)
    await expect(anyone.button(texts(language(anyone)).send)).to_be_visible()


async def test_two_tabs_are_two_conversations(
    anyone: Visitor, gateway: GatewayStub, page_process: PageProcess
) -> None:
    await anyone.go("?assistant=sui")
    await anyone.send("第一扇窗")
    await anyone.whole(PLAIN)
    other = Visitor(await anyone.page.context.new_page(), page_process.url)
    await other.go("?assistant=sui")
    await expect(other.page.locator(".hanlin-about h2")).to_be_visible()
    await expect(other.answer).to_have_count(0)
    await other.send("第二扇窗")
    await other.whole(PLAIN)
    await expect(anyone.answer).to_have_count(1)
    sent = [request["messages"] for request in gateway.requests]
    assert [len(messages) for messages in sent] == [1, 1]


async def test_the_language_changes_and_what_was_picked_stays(
    zh: Visitor, gateway: GatewayStub
) -> None:
    await zh.go("?assistant=wishes")
    await expect(zh.box).to_have_value("祝姐姐生日快乐")
    await zh.page.get_by_role("radio", name="小红书").check()
    await expect(zh.box).to_have_value("祝姐姐生日快乐，小红书风格")
    await zh.button("English").click()
    await expect(zh.page.locator(".hanlin-controls")).to_contain_text("Style")
    await expect(zh.page.get_by_role("radio", name="小红书")).to_be_checked()
    await expect(zh.box).to_have_value("祝姐姐生日快乐，小红书风格")
    await zh.card("sui").click()
    await expect(zh.page.locator(".hanlin-controls")).to_have_count(0)
    await zh.card("wishes").click()
    await expect(zh.page.get_by_role("radio", name="小红书")).to_be_checked()


async def test_controls_add_to_what_is_typed_where_the_prompt_takes_both(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    gateway.models.append(letters())
    await anyone.go("?assistant=letters")
    shown = anyone.page.locator(".hanlin-preview")
    await expect(shown).to_contain_text("写一封信，，语气亲切")
    await anyone.box.fill("祝伯父春安")
    await expect(shown).to_contain_text("写一封信，祝伯父春安，语气亲切")
    await anyone.page.get_by_role("radio", name="庄重").check()
    await expect(shown).to_contain_text("写一封信，祝伯父春安，语气庄重")
    await expect(anyone.box).to_have_value("祝伯父春安")
    await anyone.box.press("Enter")
    await anyone.whole(PLAIN)
    (request,) = gateway.requests
    assert request["messages"][-1]["content"] == "写一封信，祝伯父春安，语气庄重"


async def test_what_is_typed_before_the_controls_are_drawn_is_in_the_preview(
    zh: Visitor, gateway: GatewayStub
) -> None:
    gateway.models.append({**letters(), "controls": {"style": wishes()["controls"]["style"]}})
    await zh.go("?assistant=wishes")
    await zh.page.get_by_role("radio", name="严肃").check()
    await expect(zh.box).to_have_value("祝姐姐生日快乐，严肃风格")
    await zh.send("多谢")  # which leaves the box empty, as it is in the next room
    await zh.whole(PLAIN)
    await expect(zh.button("发送")).to_be_visible()
    await zh.card("letters").click()
    shown = zh.page.locator(".hanlin-preview")
    await expect(shown).to_contain_text("写一封信，，")  # we are there, whatever is drawn by then
    await zh.box.fill("祝伯父春安")
    await expect(shown).to_contain_text("写一封信，祝伯父春安，")
    await expect(zh.page.get_by_role("radio", name="正常")).to_be_checked()


async def test_what_is_typed_before_a_prompt_is_proposed_stays(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_prompts = True
    await anyone.go("?assistant=wishes")
    await soon(gateway.prompted)
    await anyone.box.fill("多谢")
    gateway.go_on.set()
    await anyone.told()
    await expect(anyone.box).to_have_value("多谢")
    await anyone.button(texts(language(anyone)).clear).click()
    await expect(anyone.box).to_have_value("祝姐姐生日快乐")


async def test_what_is_typed_beside_controls_is_found_after_a_reload(
    zh: Visitor, gateway: GatewayStub
) -> None:
    gateway.models.append(letters())
    await zh.go("?assistant=letters")
    await expect(zh.page.locator(".hanlin-preview")).to_contain_text("写一封信，，语气亲切")
    await zh.box.fill("祝伯父春安")
    await expect(zh.page.locator(".hanlin-preview")).to_contain_text("祝伯父春安")
    await zh.reload()
    await expect(zh.box).to_have_value("祝伯父春安")
    await expect(zh.page.locator(".hanlin-preview")).to_contain_text("祝伯父春安")
