"""What every client may rely on, whichever real engine is behind the gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.gateway.contract.served import Served
from tests.gateway.openai_schema import (
    CHAT,
    CHAT_CHUNK,
    ERROR,
    MODEL,
    MODELS,
    TEXT,
    TEXT_CHUNK,
    problems,
)

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

USER: list[Any] = [{"role": "user", "content": "祝姐姐生日快乐"}]
CHATS, TEXTS = "/v1/chat/completions", "/v1/completions"
ASKS: dict[str, Any] = {CHATS: {"messages": USER}, TEXTS: {"prompt": "床前明月光"}}
COUNTED: Any = {"stream": True, "stream_options": {"include_usage": True}}


async def raw(served: Served, path: str, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=served.gateway.url, timeout=60) as http:
        return await http.post(path, json={"model": "wishes", **ASKS.get(path, {}), **body})


def events_of(reply: httpx.Response) -> list[Any]:
    parts = reply.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def text_of(choice: Any) -> str:
    said = choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
    return said.get("content") or ""


@pytest.mark.parametrize("path", [CHATS, TEXTS])
async def test_a_whole_answer_and_a_stream_say_the_same_and_are_as_published(
    served: Served, path: str
) -> None:
    whole, kinds = await raw(served, path), {CHATS: (CHAT, CHAT_CHUNK), TEXTS: (TEXT, TEXT_CHUNK)}
    assert problems(kinds[path][0], whole.json()) == []
    chunks = events_of(await raw(served, path, **COUNTED))
    assert [p for chunk in chunks for p in problems(kinds[path][1], chunk)] == []
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(map(text_of, choices)) == text_of(whole.json()["choices"][0]) != ""
    assert [c["finish_reason"] for c in choices][-1] == whole.json()["choices"][0]["finish_reason"]
    assert {chunk["model"] for chunk in chunks} == {whole.json()["model"]} == {"wishes"}
    assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize("path", [CHATS, TEXTS])
async def test_tokens_are_counted_alike(served: Served, path: str) -> None:
    whole = (await raw(served, path, max_tokens=5)).json()["usage"]
    chunks = events_of(await raw(served, path, max_tokens=5, **COUNTED))
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [whole[name] for name in names] == [chunks[-1]["usage"][name] for name in names]
    assert chunks[-1]["choices"] == []
    assert whole["completion_tokens"] == 5
    assert whole["total_tokens"] == whole["prompt_tokens"] + 5
    silent = events_of(await raw(served, path, max_tokens=5, stream=True))
    assert not any(chunk.get("usage") for chunk in silent)


async def test_an_alias_and_the_official_client(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="tianji", messages=USER)
    stream = await client.chat.completions.create(model="tianji", messages=USER, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert (whole.model, whole.choices[0].message.content) == ("wishes", text)


async def test_the_limit_holds_under_every_name(client: AsyncOpenAI) -> None:
    for name in ("max_tokens", "max_completion_tokens", "n_predict"):
        answer = await client.chat.completions.create(
            model="wishes", messages=USER, extra_body={name: 100_000, "ignore_eos": True}
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 400


@pytest.mark.parametrize("path", [CHATS, TEXTS])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_of_several_tokens(served: Served, path: str, stream: bool) -> None:
    whole = text_of((await raw(served, path)).json()["choices"][0])
    stop = whole[3:7]
    reply = await raw(served, path, stop=[stop, "never"], **(COUNTED if stream else {}))
    chunks = events_of(reply) if stream else [reply.json()]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(map(text_of, choices)) == whole.partition(stop)[0]
    assert choices[-1]["finish_reason"] == "stop"
    assert 0 < chunks[-1]["usage"]["completion_tokens"] <= 16
    await served.until(working=False)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long(served: Served, client: AsyncOpenAI, stream: bool) -> None:
    long: list[Any] = [{"role": "user", "content": "长" * 3000}]
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="wishes", messages=long, stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert problems(ERROR, caught.value.response.json()) == []


@pytest.mark.parametrize(
    "bad", [{"response_format": {"type": "no_such"}}, {"messages": 7}, {"max_tokens": -1}]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_bad_field(served: Served, bad: Any, stream: bool) -> None:
    reply = await raw(served, CHATS, **bad, stream=stream)
    assert (reply.status_code, problems(ERROR, reply.json())) == (400, [])
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("field", ["functions", "web_search_options"])
async def test_what_the_engine_would_ignore_is_refused(served: Served, field: str) -> None:
    reply = await raw(served, CHATS, **{field: [{"name": "f"}] if field == "functions" else {}})
    error = reply.json()["error"]
    told = (reply.status_code, error["param"], error["code"])
    assert told == (400, field, "unsupported_parameter")
    assert not await served.engine.working()


@pytest.mark.parametrize("path", [CHATS, TEXTS])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_engines_work(
    served: Served, path: str, stream: bool
) -> None:
    asking = asyncio.create_task(raw(served, path, max_tokens=400, ignore_eos=True, stream=stream))
    await served.until(working=True)
    assert not asking.done()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await served.until(working=False)
    assert served.engine.made < 400
    async with asyncio.timeout(20):
        while await metric(served, 'hanlin_in_flight{assistant="wishes"}'):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_catalogue_and_health(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.gateway.url) as http:
        models = (await http.get("/v1/models")).json()
        model = (await http.get("/v1/models/tianji")).json()
        assert (await http.get("/health")).status_code == 200
        ready = await http.get("/ready")
    assert (problems(MODELS, models), problems(MODEL, model)) == ([], [])
    assert (model["id"], model["state"]) == ("wishes", "ready")
    assert (ready.status_code, ready.json()["assistants"]) == (200, {"wishes": "ready"})
    async with httpx.AsyncClient(base_url=served.engine.url) as http:
        assert (await http.get("/health")).status_code == 200


async def test_the_metrics_count_what_the_engine_made(served: Served) -> None:
    name = 'hanlin_tokens_total{assistant="wishes",direction="out",surface="chat"}'
    before = await metric(served, name)
    made = (await raw(served, CHATS, max_tokens=7)).json()["usage"]["completion_tokens"]
    assert await metric(served, name) == before + made


async def metric(served: Served, name: str) -> float:
    async with httpx.AsyncClient(base_url=served.gateway.url) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    labels = set(name.partition("{")[2].rstrip("}").split(","))
    for line in lines:
        if line.startswith(name.partition("{")[0] + "{"):
            found, _, value = line.rpartition(" ")
            if labels <= set(found.partition("{")[2].rstrip("}").split(",")):
                return float(value)
    return 0.0
