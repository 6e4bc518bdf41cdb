"""Where llama.cpp alone is different: it keeps stop strings and log probabilities itself."""

from __future__ import annotations

from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.gateway.contract.served import Served
from tests.gateway.contract.test_contract import CHATS, COUNTED, TEXTS, USER, events_of, raw
from tests.gateway.openai_schema import CHAT, CHAT_CHUNK, TEXT, TEXT_CHUNK, problems

pytestmark = [
    pytest.mark.chain,
    pytest.mark.parametrize("served", ["llamacpp"], indirect=True),
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest.mark.parametrize("stream", [False, True])
async def test_it_counts_the_tokens_before_a_stop_itself(client: AsyncOpenAI, stream: bool) -> None:
    asked: Any = {"model": "wishes", "messages": USER}
    whole = (await client.chat.completions.create(**asked)).choices[0].message.content or ""
    got: Any = await client.chat.completions.create(
        **asked, stop=whole[3:6], **(COUNTED if stream else {})
    )
    last = [chunk async for chunk in got][-1] if stream else got
    assert "estimated" not in last.usage.model_dump()


@pytest.mark.parametrize("path", [CHATS, TEXTS])
async def test_log_probabilities_are_as_published(served: Served, path: str) -> None:
    chat = path == CHATS
    body: Any = {"max_tokens": 4, "logprobs": True if chat else 2}
    body |= {} if chat else {"prompt": ["春眠", "床前"]}
    whole = await raw(served, path, **body)
    chunks = events_of(await raw(served, path, **body, stream=True))
    assert problems(CHAT if chat else TEXT, whole.json()) == []
    of_chunk = CHAT_CHUNK if chat else TEXT_CHUNK
    assert [problem for chunk in chunks for problem in problems(of_chunk, chunk)] == []
    assert any(choice["logprobs"] for chunk in chunks for choice in chunk["choices"])
