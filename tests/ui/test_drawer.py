"""The drawer of settings: what is set is asked for, within limits, and only where it may be."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from serve.ui.house import Assistant, Limits, Sampling
from serve.ui.question import Question, Wish, wish
from tests.ui.gateway_stub import PLAIN, GatewayStub, letters
from tests.ui.visitor import Visitor

TEXT = {"zh": "名", "en": "Name"}
USUAL = Assistant(
    id="a",
    title=TEXT,
    description=TEXT,
    system="你是甲。",
    sampling=Sampling(temperature=0.7, top_p=0.8, max_tokens=100),
    limits=Limits(max_tokens=256),
)
ASKED = [{"role": "user", "content": "问"}]


def changed(**more: object) -> Assistant:
    return USUAL.model_copy(update=more)


def test_what_is_left_alone_is_not_asked_for() -> None:
    assert wish(USUAL, 0.7, 0.8, 100, "你是甲。") == Wish()
    assert Question(USUAL, ASKED, Wish()).messages == ASKED


def test_what_is_set_is_asked_for() -> None:
    asked = wish(USUAL, 0.2, 0.8, 50, "你是乙。")
    assert asked.fields == {"temperature": 0.2, "max_tokens": 50}
    assert Question(USUAL, ASKED, asked).messages[0] == {"role": "system", "content": "你是乙。"}


@pytest.mark.parametrize(
    ("rule", "typed", "sent"),
    [
        ("replace", "", ""),
        ("append", "", None),
        ("append", "短一点", "短一点"),
        ("refuse", "乙", None),
    ],
)
def test_the_system_prompt_follows_the_declaration(rule: str, typed: str, sent: str | None) -> None:
    assert wish(changed(client_system=rule), 0.7, 0.8, 100, typed).system == sent


def test_the_whole_dialogue_has_the_prompt_the_engine_was_given() -> None:
    appended = Question(changed(client_system="append"), ASKED, Wish(system="短一点")).whole
    assert appended[0]["content"] == "你是甲。\n\n短一点"
    assert Question(USUAL, ASKED, Wish(system="乙")).whole[0]["content"] == "乙"
    assert Question(USUAL, ASKED).whole[0]["content"] == "你是甲。"
    assert Question(changed(system=None), ASKED).whole == ASKED


def test_an_answer_is_never_longer_than_allowed() -> None:
    over = changed(sampling=Sampling(max_tokens=900))
    assert (over.usual_tokens, over.most_tokens) == (256, 256)
    free = changed(limits=Limits(), sampling=Sampling())
    assert free.usual_tokens == free.most_tokens


async def slide(page: Page, label: str, value: str) -> None:
    number = page.get_by_role("spinbutton", name=label)
    await number.fill(value)
    await number.press("Tab")


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_sampling_is_set_within_limits_and_put_back(
    anyone: Visitor, gateway: GatewayStub
) -> None:
    page, zh = anyone.page, anyone.page.viewport_size == {"width": 1280, "height": 800}
    name = "温度" if zh else "Temperature"
    longest = "最长" if zh else "Longest"
    gateway.models[2] |= {"sampling": {"temperature": 0.1, "top_p": 0.75, "max_tokens": 128}}
    await anyone.go("?assistant=sui")
    await expect(page.locator("#drawer")).to_be_hidden()
    await anyone.button("设置" if zh else "Settings").click()
    await expect(page.locator("#drawer")).to_be_visible()
    await expect(page.get_by_role("spinbutton", name=name)).to_have_value("0.1")
    await slide(page, name, "0.9")
    await slide(page, longest, "100000")
    await expect(page.get_by_role("spinbutton", name=longest)).to_have_value("256")
    await page.locator("#drawer .hanlin-close").click()
    await expect(page.locator("#drawer")).to_be_hidden()
    await anyone.send("你是谁？")
    await anyone.whole(PLAIN)
    asked = gateway.requests[-1]
    assert (asked["temperature"], asked["max_tokens"]) == (0.9, 256)
    assert "top_p" not in asked
    await anyone.button("设置" if zh else "Settings").click()
    await anyone.button("恢复原样" if zh else "Back to its own").click()
    await expect(page.get_by_role("spinbutton", name=name)).to_have_value("0.1")
    await page.locator("#drawer .hanlin-close").press("Escape")
    await expect(page.locator("#drawer")).to_be_hidden()
    await anyone.send("再说一遍")
    await expect(anyone.answer).to_have_count(2)
    assert not {"temperature", "max_tokens"} & set(gateway.requests[-1])


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_the_system_prompt_is_shown_and_edited_only_where_it_may_be(
    zh: Visitor, gateway: GatewayStub
) -> None:
    gateway.models[0] |= {"client_system": "refuse"}
    gateway.models.append(letters())
    system = zh.page.locator("#system textarea")
    await zh.go("?assistant=exam")
    await zh.button("设置").click()
    await expect(system).to_have_value(gateway.models[0]["system"])
    await expect(system).to_be_disabled()
    await expect(zh.page.locator("#drawer")).to_contain_text("不能改")
    await zh.card("sui").click()
    await expect(system).to_have_value(gateway.models[2]["system"])
    await system.fill("你是一位诗人。")
    await zh.send("你是谁？")
    await zh.whole(PLAIN)
    assert gateway.requests[-1]["messages"][0] == {"role": "system", "content": "你是一位诗人。"}
    await zh.card("letters").click()
    await expect(zh.page.locator("#drawer .hanlin-system")).to_have_text("你替人写信。")
    await expect(system).to_have_value("")
    await zh.card("sui").click()  # what was set there is still set
    await expect(system).to_have_value("你是一位诗人。")
