"""The list of models as both clients read it, and what is answered about embeddings."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import ModelInfo

from assistants import House
from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running, declare, gateway_before
from tests.gateway.openai_schema import ERROR, MODEL, MODELS, problems

NAMES = ("one", "two", "three", "four", "five")


@pytest.fixture
async def gateway(stack: AsyncExitStack, engine: EngineStub) -> Running:
    house = House(Path("assistants"), [declare(name, upstreams=[engine.url]) for name in NAMES])
    return await stack.enter_async_context(gateway_before(house))


@pytest.fixture
async def client(stack: AsyncExitStack, gateway: Running) -> AsyncAnthropic:
    made = AsyncAnthropic(base_url=gateway.url, api_key="any", max_retries=0)
    return await stack.enter_async_context(made)


async def test_anthropics_client_lists_all_page_by_page(client: AsyncAnthropic) -> None:
    page = await client.models.list(limit=2)
    assert ([model.id for model in page.data], page.has_more) == (["one", "two"], True)
    everything = [model async for model in await client.models.list(limit=2)]
    assert tuple(model.id for model in everything) == NAMES
    for model in everything:
        ModelInfo.model_validate(model.to_dict())
    before = await client.models.list(limit=2, before_id="five")
    assert [model.id for model in before.data] == ["three", "four"]
    assert (await client.models.list()).has_more is False


@pytest.mark.parametrize(
    "given", [{"limit": 0}, {"limit": 1001}, {"limit": "9" * 5000}, {"after_id": "nobody"}]
)
async def test_a_page_that_cannot_be(client: AsyncAnthropic, given: dict[str, Any]) -> None:
    with pytest.raises(anthropic.BadRequestError, match=next(iter(given))):
        await client.models.list(**given)


async def test_one_model_for_each(client: AsyncAnthropic, gateway: Running, client_of: Any) -> None:
    assert (await client.models.retrieve("two")).display_name == "two"
    with pytest.raises(anthropic.NotFoundError) as unknown:
        await client.models.retrieve("tow")
    assert unknown.value.type == "not_found_error"
    theirs = await client_of(gateway)
    assert problems(MODEL, (await theirs.models.retrieve("two")).to_dict()) == []
    assert problems(MODELS, (await theirs.models.list()).to_dict()) == []
    with pytest.raises(openai.NotFoundError):
        await theirs.models.retrieve("tow")


async def test_embeddings_are_refused_in_one_sentence(gateway: Running, client_of: Any) -> None:
    client = await client_of(gateway)
    with pytest.raises(openai.BadRequestError, match="write text") as caught:
        await client.embeddings.create(model="one", input="hi")
    assert caught.value.code == "not_offered"
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        answer = await http.post("/v1/embeddings")
    assert (answer.status_code, problems(ERROR, answer.json())) == (400, [])
