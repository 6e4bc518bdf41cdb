"""Where llama.cpp alone is different: it keeps stop strings and log probabilities itself, and whole
answers are asked of it as streams, because only there it notices that a client has left."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from tests.gateway.contract.served import Served
from tests.gateway.contract.test_contract import (
    CHATS,
    COUNTED,
    TEXTS,
    USER,
    events_of,
    raw,
    text_of,
)
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


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHATS, {}),
        (CHATS, {"max_tokens": 5, "n": 1, "logprobs": False}),
        (CHATS, {"stop": ["日", "乐"]}),
        (CHATS, {"stop": "祝"}),  # with which it begins
        (CHATS, {"temperature": 0.9, "seed": 7, "max_tokens": 40}),
        (CHATS, {"temperature": 0.9, "seed": 7, "min_p": 0.1, "typical_p": 0.9, "logit_bias": {}}),
        (CHATS, {"response_format": {"type": "json_object"}, "max_tokens": 40}),
        (CHATS, {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "low"}),
        (CHATS, {"metadata": {"a": "b"}, "store": True, "user": "x", "tools": []}),
        (CHATS, {"response_format": {"type": "no_such"}}),
        (CHATS, {"temperature": "x"}),
        (CHATS, {"messages": [{"role": "user", "content": "长" * 2000}]}),
        (TEXTS, {}),
        (TEXTS, {"max_tokens": 30, "stop": "，"}),
        (TEXTS, {"prompt": [1, 2, 3], "max_tokens": 5}),
        (TEXTS, {"prompt": [[1, 2, 3]], "max_tokens": 5, "echo": False, "suffix": ""}),
        (TEXTS, {"prompt": [-1]}),
        (TEXTS, {"prompt": ""}),
    ],
)
async def test_an_answer_put_together_is_what_the_engine_would_have_said_whole(
    served: Served, path: str, fields: Any
) -> None:
    folded = await raw(served, path, **fields)
    whole = await raw(served, path, **fields, an_unknown_wish=True)  # which is not plain
    assert folded.status_code == whole.status_code
    assert _lasting(folded.json()) == _lasting(whole.json())


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHATS, {"n": 3, "temperature": 2.5, "seed": 6, "max_tokens": 40}),
        (TEXTS, {"n": 2, "prompt": "床前"}),
        (TEXTS, {"n": 2, "prompt": ["一", "二三"], "max_tokens": 5}),
    ],
)
async def test_of_several_answers_put_together_all_are_counted(
    served: Served, path: str, fields: Any
) -> None:
    """Asked for them whole, the engine counts the first."""
    folded = (await raw(served, path, **fields)).json()
    whole = (await raw(served, path, **fields, an_unknown_wish=True)).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    counted = events_of(await raw(served, path, **fields, **options))[-1]["usage"]
    told = folded["usage"]
    assert folded["choices"] == whole["choices"]
    assert [told[name] for name in COUNTS] == [counted[name] for name in COUNTS]
    assert told["completion_tokens"] > whole["usage"]["completion_tokens"]


async def test_what_was_there_of_an_answer_is_not_said_again(served: Served) -> None:
    """As a stream does not, and as Anthropic's whole messages do not."""
    begun = [*USER, {"role": "assistant", "content": "春眠"}]
    whole = (await raw(served, CHATS, messages=begun)).json()["choices"][0]["message"]["content"]
    chunks = events_of(await raw(served, CHATS, messages=begun, stream=True))
    message = (await raw(served, "/v1/messages", messages=begun, max_tokens=16)).json()
    said = "".join(text_of(choice) for chunk in chunks for choice in chunk["choices"])
    assert whole == said == message["content"][0]["text"]
    assert not whole.startswith("春眠")


@pytest.mark.parametrize("n", [1, 2])
async def test_beside_other_answers_too_a_client_that_leaves_ends_the_engines_work(
    served: Served, n: int
) -> None:
    """What others are told keeps it from looking for the client of a whole answer."""
    others = asyncio.create_task(_one_after_the_other(served))
    async with httpx.AsyncClient(base_url=served.engine.url, timeout=60) as engine:
        made = [await _made_for_who_leaves(served, engine, n) for _ in range(TIMES)]
    assert not others.done()
    others.cancel()
    await asyncio.gather(others, return_exceptions=True)
    await served.until(working=False)
    assert min(made) < 300


COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
LONG: Any = {"max_tokens": 400, "ignore_eos": True}
TIMES = 4
"""On a busy machine somebody may be seen to begin too late to leave in time, but not each time."""
LEAVING = 4321
"""The seed by which a request is known again."""


async def _one_after_the_other(served: Served) -> None:
    while True:
        events_of(await raw(served, TEXTS, **LONG, stream=True))


async def _made_for_who_leaves(served: Served, engine: httpx.AsyncClient, n: int) -> int:
    leaving = asyncio.create_task(raw(served, CHATS, **LONG, seed=LEAVING, n=n))
    while await _made(engine) is None and not leaving.done():
        pass
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    made = 0 if leaving.cancelled() else LONG["max_tokens"]
    while (now := await _made(engine)) is not None:
        made = max(made, now)
    return made


async def _made(engine: httpx.AsyncClient) -> int | None:
    """How many tokens the engine has made for the one who leaves; None where it does not work."""
    slots = (await engine.get("/slots")).json()
    mine = [s for s in slots if s["is_processing"] and s["params"]["seed"] == LEAVING]
    return max((s["next_token"][0]["n_decoded"] for s in mine), default=None)


def _lasting(answer: Any) -> Any:
    """An answer without what is another each time."""
    kept = {name: value for name, value in answer.items() if name not in ("id", "created")}
    if "timings" in kept:
        kept["timings"] = set(kept["timings"])
    if "usage" in kept:  # what of the prompt was known from before is told there too
        kept["usage"] = {**kept["usage"], "prompt_tokens_details": None}
    return kept
