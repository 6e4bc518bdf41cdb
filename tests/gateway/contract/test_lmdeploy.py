"""Where LMDeploy alone is different: what it ignores, how it fails, and what it says it did."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.gateway.contract.served import Lmdeploy, Served
from tests.gateway.contract.test_contract import CHATS, COUNTED, TEXTS, USER, events_of, raw
from tests.gateway.openai_schema import CHAT_CHUNK, ERROR, problems

pytestmark = [
    pytest.mark.lmdeploy,
    pytest.mark.parametrize("served", ["lmdeploy"], indirect=True),
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="session"),
]

FAILING_SEED = 500
"""At which `reciting_turbomind` fails; LMDeploy's python alone can import that."""
FINISHED = "lmdeploy:request_success_total{"


def engine_of(served: Served) -> Lmdeploy:
    assert isinstance(served.engine, Lmdeploy)
    return served.engine


@pytest.mark.parametrize("field", ["presence_penalty", "frequency_penalty"])
@pytest.mark.parametrize("path", [CHATS, TEXTS])
async def test_a_penalty_that_turbomind_ignores_is_refused(
    served: Served, path: str, field: str
) -> None:
    before = len(engine_of(served).ended)
    reply = await raw(served, path, **{field: 0.5})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)
    assert len(engine_of(served).ended) == before


async def test_a_failure_of_the_engine_is_an_error(served: Served, client: AsyncOpenAI) -> None:
    whole = await raw(served, CHATS, seed=FAILING_SEED)
    assert (whole.status_code, problems(ERROR, whole.json())) == (502, [])
    *chunks, failure = events_of(await raw(served, CHATS, seed=FAILING_SEED, **COUNTED))
    assert [p for chunk in chunks for p in problems(CHAT_CHUNK, chunk)] == []
    assert problems(ERROR, failure) == []
    with pytest.raises(openai.APIError) as caught:
        async for _ in await client.chat.completions.create(
            model="wishes", messages=USER, seed=FAILING_SEED, stream=True
        ):
            pass
    assert caught.value.code == "engine_failed"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_ends_its_work(served: Served, stream: bool) -> None:
    """It does not keep stop strings, so it would go on to the end."""
    ended = engine_of(served).ended
    before = len(ended)
    await raw(served, CHATS, max_tokens=400, ignore_eos=True, stop=["不觉晓"], stream=stream)
    await served.until(working=False)
    assert [how for how, _ in ended[before:]] == ["cancelled"]
    assert ended[-1][1] < 100


async def test_its_own_metrics_know_our_requests(served: Served) -> None:
    await raw(served, CHATS)
    async with httpx.AsyncClient(base_url=served.engine.url) as http:
        told = (await http.get("/metrics/")).text
    counts = [line for line in told.splitlines() if line.startswith(FINISHED)]
    assert sum(float(line.rpartition(" ")[2]) for line in counts) >= 1


async def test_several_prompts_and_choices_keep_their_numbers(
    served: Served, client: AsyncOpenAI
) -> None:
    text = await client.completions.create(model="wishes", prompt=["春", "床"], max_tokens=3)
    assert [choice.index for choice in text.choices] == [0, 1]
    asked: Any = {"model": "wishes", "messages": USER, "max_tokens": 3, "n": 2}
    chat = await client.chat.completions.create(**asked)
    assert [choice.index for choice in chat.choices] == [0, 1]
    seen = set()
    async for chunk in await client.chat.completions.create(**asked, stream=True):
        seen |= {choice.index for choice in chunk.choices}
    assert seen == {0, 1}
