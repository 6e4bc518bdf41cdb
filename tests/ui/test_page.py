"""The page as people use it: the real page process, driven in headless Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.ui.conftest import PageProcess, serving
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.visitor import Visitor, soon

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_cards_say_who_they_are_and_whether_they_are_ready(
    zh: Visitor, gateway: GatewayStub
) -> None:
    await zh.go()
    await expect(zh.page.locator(".hanlin-card")).to_have_count(4)
    await expect(zh.card("wishes")).to_contain_text("为亲友、师长和同事写一段祝福")
    await expect(zh.card("wishes").locator(".hanlin-state")).to_have_text("可用")
    await expect(zh.card("exam").locator(".hanlin-state")).to_have_text("载入中")
    gateway.models[0]["state"] = "ready"
    await expect(zh.card("exam").locator(".hanlin-state")).to_have_text("可用")


async def test_choosing_opens_the_assistant_and_names_it_in_the_address(
    zh: Visitor, gateway: GatewayStub
) -> None:
    await zh.go()
    await zh.card("wishes").click()
    await expect(zh.page.locator(".hanlin-about h2")).to_have_text("天机·送祝福")
    await expect(zh.page.locator(".hanlin-memory")).to_have_text("每条消息单独作答：它不记得前文。")
    assert zh.page.url.endswith("?assistant=wishes")
    await zh.card("sui").click()
    await expect(zh.page.locator(".hanlin-about h2")).to_have_text("隋朝那些事儿")
    await zh.page.go_back()
    await expect(zh.page.locator(".hanlin-about h2")).to_have_text("天机·送祝福")
    await zh.page.go_back()
    await expect(zh.page.locator("#room")).to_be_hidden()


async def test_a_deep_link_opens_the_assistant_with_its_prompt(
    zh: Visitor, gateway: GatewayStub
) -> None:
    await zh.go("?assistant=tianji&prompt=祝导师春节快乐")
    await expect(zh.page.locator(".hanlin-about h2")).to_have_text("天机·送祝福")
    await expect(zh.page.locator("#message textarea")).to_have_value("祝导师春节快乐")
    assert gateway.requests == []


async def test_an_unknown_name_in_the_address_is_a_sentence(
    zh: Visitor, gateway: GatewayStub
) -> None:
    await zh.go("?assistant=nobody")
    await expect(zh.page.locator(".hanlin-trouble")).to_contain_text("没有名叫「nobody」的助手")
    await expect(zh.page.locator(".hanlin-card")).to_have_count(4)


async def test_an_example_is_sent_and_answered(zh: Visitor, gateway: GatewayStub) -> None:
    await zh.go("?assistant=wishes")
    await zh.page.locator("#chat .example", has_text="小红书").click()
    await zh.whole(PLAIN)
    (request,) = gateway.requests
    assert request["model"] == "wishes"
    assert request["stream"] is True
    assert request["messages"] == [{"role": "user", "content": "祝姐姐生日快乐，小红书风格"}]


async def test_the_answer_grows_and_stop_closes_it_upstream(
    zh: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_after = 8
    await zh.go("?assistant=sui")
    await zh.send("你是谁？")
    await expect(zh.page.locator("#chat .bot.message")).to_have_text(PLAIN[:8])
    assert not gateway.closed.is_set()
    await zh.page.get_by_role("button", name="停止").click()
    await soon(gateway.closed)
    await expect(zh.page.locator("#chat .bot.message").first).to_contain_text(PLAIN[:8])
    await expect(zh.page.locator("#chat .hanlin-notice")).to_have_text("（已停止）")
    await expect(zh.page.get_by_role("button", name="发送")).to_be_visible()


async def test_escape_stops_and_shift_enter_breaks_the_line(
    zh: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_after = 3
    await zh.go("?assistant=sui")
    box = zh.page.locator("#message textarea")
    await box.fill("一")
    await box.press("Shift+Enter")
    await box.press_sequentially("二")
    assert gateway.requests == []
    await box.press("Enter")
    await expect(zh.page.locator("#chat .bot.message")).to_have_text(PLAIN[:3])
    assert gateway.requests[0]["messages"][-1]["content"] == "一\n二"
    await box.press("Escape")
    await soon(gateway.closed)


async def test_closing_the_tab_closes_the_answer_upstream(
    zh: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.hold_after = 3
    await zh.go("?assistant=sui")
    await zh.send("你是谁？")
    await expect(zh.page.locator("#chat .bot.message")).to_have_text(PLAIN[:3])
    await zh.page.close()
    await soon(gateway.closed)


async def test_history_goes_along_only_where_the_assistant_remembers(
    zh: Visitor, gateway: GatewayStub
) -> None:
    for name, sent in (("sui", 3), ("wishes", 1)):
        await zh.go(f"?assistant={name}")
        await zh.send("第一句")
        await zh.whole(PLAIN)
        await zh.send("第二句")
        await expect(zh.page.locator("#chat .bot.message").nth(1)).to_have_text(PLAIN)
        assert len(gateway.requests[-1]["messages"]) == sent
        assert gateway.requests[-1]["messages"][-1]["content"] == "第二句"


async def test_regenerating_editing_and_starting_anew(zh: Visitor, gateway: GatewayStub) -> None:
    await zh.go("?assistant=sui")
    await zh.send("第一句")
    await zh.whole(PLAIN)
    gateway.behaviour.text = "另一个回答"
    await zh.button("重试").click()
    await expect(zh.page.locator("#chat .bot.message")).to_have_text("另一个回答")
    assert gateway.requests[1]["messages"] == gateway.requests[0]["messages"]
    await zh.button("新对话").click()
    await expect(zh.page.locator("#chat .bot.message")).to_have_count(0)
    await expect(zh.page.locator("#chat .example")).to_have_count(2)


async def test_controls_render_the_trained_prompt(zh: Visitor, gateway: GatewayStub) -> None:
    await zh.go("?assistant=wishes")
    box = zh.page.locator("#message textarea")
    await expect(box).to_have_value("祝姐姐生日快乐")
    await zh.page.get_by_role("radio", name="小红书").check()
    await expect(box).to_have_value("祝姐姐生日快乐，小红书风格")
    await zh.page.get_by_label("为了什么").click()
    await zh.page.get_by_role("option", name="春节").click()
    await expect(box).to_have_value("祝姐姐春节快乐，小红书风格")
    recipient = zh.page.get_by_label("送给谁")
    await recipient.fill("张老师")
    await recipient.press("Enter")
    await expect(box).to_have_value("祝张老师春节快乐，小红书风格")
    await zh.card("poetry").click()
    await expect(box).to_have_value("请写一首含有以下意象的七言绝句明月、秋风")
    await zh.page.get_by_role("textbox", name="意象").fill("落日、扁舟")
    await expect(box).to_have_value("请写一首含有以下意象的七言绝句落日、扁舟")
    await zh.card("sui").click()
    await expect(box).to_have_value("")
    await expect(zh.page.locator(".hanlin-controls")).to_have_count(0)


async def test_an_engine_that_is_loading_is_waited_for(zh: Visitor, gateway: GatewayStub) -> None:
    gateway.behaviour.status, gateway.behaviour.refusals = 503, 2
    await zh.go("?assistant=exam")
    await zh.send("世界上最大的宫殿是")
    await expect(zh.page.locator("#chat .hanlin-notice")).to_contain_text("正在载入")
    await zh.whole(PLAIN)
    assert len(gateway.requests) == 3


@pytest.mark.parametrize(
    ("status", "says"),
    [(404, "已经不在这里"), (429, "人太多"), (503, "不能回答"), (400, "没有被接受")],
)
async def test_a_refusal_is_a_sentence_in_the_conversation(
    zh: Visitor, gateway: GatewayStub, status: int, says: str
) -> None:
    gateway.behaviour.status, gateway.behaviour.refusals = status, -1
    await zh.go("?assistant=sui")
    await zh.send("你是谁？")
    await expect(zh.page.locator("#chat .hanlin-notice")).to_contain_text(says)
    await expect(zh.page.locator(".toast-body, .error")).to_have_count(0)
    gateway.behaviour.status = 200
    await zh.send("你好")
    await expect(zh.page.locator("#chat .bot.message").last).to_have_text(PLAIN)
    sent = [turn["content"] for turn in gateway.requests[-1]["messages"]]
    assert all("hanlin-notice" not in content for content in sent)


async def test_the_page_comes_before_the_gateway_and_recovers(
    zh: Visitor, page_process: PageProcess
) -> None:
    await zh.go("?assistant=wishes")
    await expect(zh.page.locator(".hanlin-trouble")).to_contain_text("暂时连不上服务器")
    async with serving(GatewayStub(), page_process.gateway_port):
        await expect(zh.page.locator(".hanlin-about h2")).to_have_text("天机·送祝福")
        await expect(zh.page.locator("#message textarea")).to_have_value("祝姐姐生日快乐")
    await zh.send("你好")
    await expect(zh.page.locator("#chat .hanlin-notice")).to_contain_text("连不上服务器")
    await expect(zh.card("wishes").locator(".hanlin-state")).to_have_text("连接中断")


async def test_the_language_follows_the_browser_and_the_switch(
    en_phone: Visitor, gateway: GatewayStub
) -> None:
    page = en_phone.page
    await en_phone.go("?assistant=wishes")
    await expect(page.locator(".hanlin-about h2")).to_have_text("Tianji wishes")
    await expect(page.get_by_role("button", name="Send")).to_be_visible()
    await en_phone.send("祝姐姐生日快乐")
    await expect(page.locator("#chat .bot.message")).to_have_text(PLAIN)
    await page.get_by_role("button", name="中文").click()
    await expect(page.locator(".hanlin-about h2")).to_have_text("天机·送祝福")
    await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    await expect(page.locator("#chat .bot.message")).to_have_text(PLAIN)
    await en_phone.reload()
    await expect(page.locator(".hanlin-about h2")).to_have_text("天机·送祝福")


async def test_a_phone_shows_everything_without_scrolling_sideways(
    en_phone: Visitor, gateway: GatewayStub, tmp_path: Path
) -> None:
    page = en_phone.page
    for address in ("", "?assistant=wishes", "?assistant=poetry"):
        await en_phone.go(address)
        await expect(page.locator(".hanlin-card").first).to_be_visible()
        if address:
            await expect(page.locator("#message textarea")).not_to_have_value("")
            await expect(page.get_by_role("button", name="Send")).to_be_in_viewport()
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390
        picture = tmp_path / f"phone-{address.removeprefix('?assistant=')}.png"
        await page.screenshot(path=picture)


async def test_a_touch_beside_the_drawer_closes_it_on_a_phone(
    en_phone: Visitor, gateway: GatewayStub
) -> None:
    page = en_phone.page
    await en_phone.go("?assistant=sui")
    await page.locator("#settings").click()
    await page.locator("#drawer h2").click()
    await expect(page.locator("#drawer")).to_be_visible()
    await page.locator("#room .hanlin-about h2").click()
    await expect(page.locator("#drawer")).to_be_hidden()


async def test_light_and_dark_are_remembered(zh: Visitor, gateway: GatewayStub) -> None:
    await zh.go()
    await expect(zh.page.locator("body.dark")).to_have_count(0)
    await zh.page.get_by_role("button", name="明暗").click()
    await expect(zh.page.locator("body.dark")).to_have_count(1)
    await zh.reload()
    await expect(zh.page.locator("body.dark")).to_have_count(1)


async def test_an_answer_cannot_make_the_browser_fetch_from_elsewhere(
    zh: Visitor, gateway: GatewayStub
) -> None:
    gateway.behaviour.text = "![](http://stranger.invalid/a.png) 看"
    await zh.go("?assistant=sui")
    zh.meant += ["Content Security Policy", "http://stranger.invalid/a.png"]
    async with zh.page.expect_console_message(lambda said: zh.meant[0] in said.text):
        await zh.send("你好")
        await expect(zh.page.locator("#chat .bot.message")).to_contain_text("看")
