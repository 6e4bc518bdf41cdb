"""The answer as it grows, and every failure as a sentence: without Gradio and without a browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from serve.ui.house import Assistant, House
from serve.ui.loads import Load, Loads
from serve.ui.question import Question
from serve.ui.talk import Answer, answer
from serve.ui.texts import EN, ZH, preferred, texts
from tests.ports import free_port
from tests.ui.conftest import serving
from tests.ui.gateway_stub import PLAIN, GatewayStub

QUESTION = [{"role": "user", "content": "你是谁？"}]


@pytest.fixture
async def stub_and_house() -> AsyncIterator[tuple[GatewayStub, House]]:
    stub = GatewayStub()
    async with serving(stub, free_port()) as url:
        house = House(url, key="any")
        yield stub, house
        await house.close()


async def sui(house: House) -> Assistant:
    found = (await house.glance()).get("sui")
    assert found is not None
    return found


async def all_of(house: House) -> list[Answer]:
    return [said async for said in answer(house, Question(await sui(house), QUESTION), EN)]


async def test_the_answer_grows_to_its_whole_text(
    stub_and_house: tuple[GatewayStub, House],
) -> None:
    _, house = stub_and_house
    steps = await all_of(house)
    assert steps[-1] == Answer(PLAIN, "")
    assert len(steps) > 2
    assert all(PLAIN.startswith(step.text) for step in steps)


async def test_what_has_come_is_shown_while_the_rest_is_awaited(
    stub_and_house: tuple[GatewayStub, House],
) -> None:
    stub, house = stub_and_house
    stub.behaviour.hold_after = 5
    async with aclosing(answer(house, Question(await sui(house), QUESTION), EN)) as growing:
        async for said in growing:
            if said.text == PLAIN[:5]:
                break
    await asyncio.wait_for(stub.closed.wait(), 5)


async def test_an_answer_cut_at_its_length_limit_says_so(
    stub_and_house: tuple[GatewayStub, House],
) -> None:
    stub, house = stub_and_house
    stub.behaviour.finish = "length"
    assert (await all_of(house))[-1] == Answer(PLAIN, EN.cut_short)


async def test_nothing_said_is_a_sentence(stub_and_house: tuple[GatewayStub, House]) -> None:
    stub, house = stub_and_house
    stub.behaviour.text = ""
    assert (await all_of(house))[-1] == Answer("", EN.empty)


async def test_an_engine_that_dies_keeps_every_character_that_came(
    stub_and_house: tuple[GatewayStub, House],
) -> None:
    stub, house = stub_and_house
    stub.behaviour.die_after = 7
    assert (await all_of(house))[-1] == Answer(PLAIN[:7], EN.broke_off)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, Answer("", EN.refused, "because")),
        (404, Answer("", EN.unknown_model)),
        (429, Answer("", EN.busy)),
        (500, Answer("", EN.failed, "because")),
        (503, Answer("", EN.failed, "because")),
        (504, Answer("", EN.slow)),
    ],
)
async def test_each_refusal_has_its_sentence(
    stub_and_house: tuple[GatewayStub, House], status: int, told: Answer
) -> None:
    stub, house = stub_and_house
    stub.behaviour.status, stub.behaviour.error = status, "because"
    assert await all_of(house) == [told]


async def test_a_gateway_that_is_gone_is_a_sentence() -> None:
    stub = GatewayStub()
    async with serving(stub, free_port()) as url:
        house = House(url, key="any")
        assistant = await sui(house)
    said = [step async for step in answer(house, Question(assistant, QUESTION), EN)][-1]
    await house.close()
    assert said == Answer("", EN.gone)


async def test_a_house_that_is_gone_keeps_its_assistants_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serve.ui.house.FRESH_SECONDS", 0)
    stub = GatewayStub()
    async with serving(stub, free_port()) as url:
        house = House(url, key="any")
        before = await house.glance()
    after = await house.glance()
    await house.close()
    assert [a.id for a in after.assistants] == [a.id for a in before.assistants]
    assert after.trouble == "gone"
    assert {a.state for a in after.assistants} == {"gone"}


async def test_whoever_asks_while_somebody_looks_is_answered_after_them(
    stub_and_house: tuple[GatewayStub, House],
) -> None:
    _, house = stub_and_house
    first, second = await asyncio.gather(house.glance(), house.glance())
    assert second is first
    assert second.get("sui")


async def test_a_prompt_of_a_house_that_is_gone_is_none() -> None:
    house = House(f"http://127.0.0.1:{free_port()}", key="any")
    assert await house.prompt("wishes", {}) is None
    await house.close()


def test_only_the_last_turn_is_sent_where_each_stands_alone() -> None:
    text = {"zh": "某", "en": "some"}
    turns = [*QUESTION, {"role": "assistant", "content": "我"}, *QUESTION]
    alone = Assistant(id="a", title=text, description=text, history="none")
    assert Question(alone, turns).messages == QUESTION
    assert Question(alone.model_copy(update={"history": "full"}), turns).messages == turns


@pytest.mark.parametrize(
    ("chosen", "accept", "language"),
    [
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "de-DE,en;q=0.8,zh;q=0.5", "en"),
        (None, "fr", "en"),
        (None, None, "en"),
        ("en", "zh-CN", "en"),
        ("zh", "en-GB", "zh"),
    ],
)
def test_the_language_is_the_chosen_one_else_the_browsers_first(
    chosen: str | None, accept: str | None, language: str
) -> None:
    assert preferred(chosen, accept) == language


def test_both_languages_say_everything_with_the_same_blanks() -> None:
    assert texts("zh-TW") is ZH
    assert set(ZH.states) == set(EN.states)
    for field in type(ZH).__dataclass_fields__:
        chinese, english = getattr(ZH, field), getattr(EN, field)
        assert chinese, field
        assert english, field
        if isinstance(chinese, str):
            assert blanks(chinese) == blanks(english), field


def blanks(sentence: str) -> set[str]:
    return set(re.findall(r"{\w+}", sentence))


def test_how_long_a_load_takes_is_learned_by_watching_one() -> None:
    loads = Loads()
    assert loads.of("a", 3).share is None
    for state, now in (("stopped", 0), ("starting", 1), ("starting", 5), ("ready", 9)):
        loads.see({"a": state}, now)
    assert loads.of("a", 4) == Load(4, 8)
    assert loads.of("a", 4).share == 0.5
    assert loads.of("a", 80).share == 0.95  # nobody knows when it will be there
    loads.see({"b": "starting"}, 10)
    loads.see({"b": "failed"}, 12)
    assert loads.of("b", 1).usual is None


async def test_waiting_for_an_engine_says_how_long_and_how_long_last_time(
    stub_and_house: tuple[GatewayStub, House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.ui.talk.SIGN_OF_LIFE_SECONDS", 0.02)
    stub, house = stub_and_house
    stub.behaviour.comments = True
    stub.models[2]["state"] = "starting"
    house.loads.see({"sui": "starting"}, 0)
    house.loads.see({"sui": "ready"}, 8)
    question = Question(await sui(house), QUESTION)
    async with aclosing(answer(house, question, ZH)) as growing:
        async for said in growing:
            if said.notice:
                break
        assert said.notice == ZH.loading_usual.format(seconds=0, usual=8)
        assert said.done is not None
        stub.go_on.set()
        *_, last = [said async for said in growing]
    assert last == Answer(PLAIN)


async def test_a_prompt_too_long_and_a_key_refused_have_their_sentences(
    stub_and_house: tuple[GatewayStub, House],
) -> None:
    stub, house = stub_and_house
    question = Question(await sui(house), QUESTION)
    for status, code in ((400, "context_length_exceeded"), (413, "request_too_large")):
        stub.behaviour.status, stub.behaviour.code = status, code
        assert [s async for s in answer(house, question, EN)] == [Answer("", EN.too_long)]
    stub.behaviour.locked = True
    assert [s async for s in answer(house, question, EN)] == [Answer("", EN.locked)]
