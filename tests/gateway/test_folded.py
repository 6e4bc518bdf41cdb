"""Whole answers that the gateway itself has as a stream. Because of stop strings: then what it sees
of their progress bounds them as it does a stream, and until they are whole another may answer. So
that llama.cpp notices who leaves: then it may take its time, as for any whole answer."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.engine_stub import EngineStub, Plan
from tests.gateway.conftest import declare, gateway_before, house_of, session_with
from tests.gateway.test_engine_host import Host, replica, until_state

ASKED: dict[str, Any] = {
    "model": "wishes",
    "messages": [{"role": "user", "content": "x"}],
    "stop": ["never said"],
}


@pytest.mark.parametrize(
    ("plan", "timeouts", "why"),
    [
        ({"hang": "head"}, {"first_byte": 0.2}, "gave no answer in 0.2 s"),
        ({"hang": "first"}, {"first_byte": 0.2}, "gave no answer in 0.2 s"),
        ({"hang": "middle", "die_after": 2}, {"between": 0.2}, "was silent for 0.2 s"),
        (
            {"tokens": 100_000, "tokens_per_second": 100},
            {"total": 0.5, "between": 0.6},
            "had not finished",
        ),
    ],
)
async def test_an_engine_that_comes_to_a_halt_is_given_up(
    engine_with: Any,
    gateway_for: Any,
    client_of: Any,
    plan: dict[str, Any],
    timeouts: dict[str, float],
    why: str,
) -> None:
    halting = await engine_with(**plan)
    client = await client_of(await gateway_for(halting, timeouts=timeouts))
    with pytest.raises(openai.InternalServerError, match=why) as caught:
        await client.chat.completions.create(**ASKED)
    assert (caught.value.status_code, caught.value.code) == (504, "engine_timeout")
    await halting.until(lambda e: e.aborted and not e.open)


@pytest.mark.parametrize(
    ("plan", "timeouts"),
    [
        ({"hang": "first"}, {"first_byte": 0.2}),
        ({"hang": "middle", "die_after": 2}, {"between": 0.2}),
        ({"die": "reset", "die_after": 2}, {}),
        ({"die": "error", "die_after": 2}, {}),
    ],
)
async def test_another_engine_answers_as_long_as_nothing_was_told(
    engine: EngineStub,
    engine_with: Any,
    gateway_for: Any,
    client_of: Any,
    plan: dict[str, Any],
    timeouts: dict[str, float],
) -> None:
    failing = await engine_with(**plan)
    client = await client_of(await gateway_for(failing, engine, timeouts=timeouts))
    session = {"x-session-id": session_with(failing, engine)}
    answer = await client.chat.completions.create(**ASKED, extra_headers=session)
    assert answer.choices[0].finish_reason == "stop"
    assert (len(failing.requests), len(engine.requests)) == (1, 1)
    await failing.until(lambda e: not e.open)


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ({"hang": "first"}, "gave no answer in 0.6 s"),
        ({"hang": "middle", "die_after": 2}, "had not finished"),
    ],
)
async def test_llamacpp_may_take_its_time(
    stack: Any, engine_with: Any, client_of: Any, plan: dict[str, Any], why: str
) -> None:
    halting = await engine_with(**plan)
    host = await stack.enter_async_context(Host().running())
    await host.set({**replica(halting), "engine": "llamacpp"})
    house = house_of(declare(timeouts={"first_byte": 0.2, "between": 0.2, "total": 0.6}))
    gateway = await stack.enter_async_context(
        gateway_before(house, engines=f"http://127.0.0.1:{host.port}")
    )
    await until_state(gateway, "ready")
    client = await client_of(gateway)
    with pytest.raises(openai.InternalServerError, match=why) as caught:
        await client.chat.completions.create(**{**ASKED, "stop": None})
    assert (caught.value.status_code, caught.value.code) == (504, "engine_timeout")
    assert halting.requests[-1].json["stream"] is True
    await halting.until(lambda e: e.aborted and not e.open)


async def test_what_no_event_tells_is_said_all_the_same(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    client = await client_of(await gateway_for(await engine_with()))
    answer = await client.chat.completions.create(**{**ASKED, "stop": "word0"})
    assert answer.choices[0].message.content == ""


async def test_an_engine_elsewhere_is_known_by_its_answers(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    engine: EngineStub = await engine_with(server="llama.cpp")
    client = await client_of(await gateway_for(engine))
    asked: Any = {**ASKED, "stop": None, "extra_body": {"functions": [{"name": "f"}]}}
    answers = [await client.chat.completions.create(**{**ASKED, "stop": None}) for _ in range(3)]
    assert [seen.json.get("stream", False) for seen in engine.requests] == [False, True, True]
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    await client.chat.completions.create(**asked)  # what was answered once is not refused then
    engine.plan = Plan()  # another engine has taken its place
    for _ in range(2):
        await client.chat.completions.create(**{**ASKED, "stop": None})
    assert [seen.json.get("stream", False) for seen in engine.requests][-2:] == [True, False]
