"""Through a real gateway and the official client: real engines' bytes come out as published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import httpx
import openai
import pytest

from serve.gateway.answers.asked import Asked
from serve.gateway.answers.stop import Stops
from serve.gateway.answers.stream import EventStream
from serve.gateway.upstream.beginning import Delivery
from serve.gateway.upstream.replicas import Replica
from tests.engine_stub import EngineStub
from tests.gateway import openai_schema as published
from tests.gateway.conftest import declare, gateway_before, house_of
from tests.gateway.openai_schema import problems
from tests.gateway.test_engine_host import Host, replica, until_state
from tests.gateway.test_failures import WORDS, ask

SAID = Path(__file__).with_name("said")
USER: list[Any] = [{"role": "user", "content": "x"}]
COUNTED: Any = {"stream": True, "stream_options": {"include_usage": True}}
ENGINES = ["lmdeploy", "llamacpp"]


@pytest.fixture
def answering(engine_with: Any, gateway_for: Any) -> Any:
    """A gateway before an engine that answers with what a real one said."""

    async def start(name: str, *, status: int = 200, **declared: Any) -> Any:
        kind = "text/event-stream" if name.endswith(".sse") else "application/json"
        body = (SAID / name).read_bytes()
        engine = await engine_with(raw=True, body=body, kind=kind, status=status)
        return await gateway_for(engine, **declared)

    return start


async def raw(gateway: Any, path: str, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        return await http.post(path, json={"model": "wishes", **body})


def events_of(reply: httpx.Response) -> list[Any]:
    parts = reply.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


@pytest.mark.parametrize("engine", ENGINES)
async def test_chat(answering: Any, client_of: Any, engine: str) -> None:
    gateway = await answering(f"{engine}-chat.json")
    reply = await raw(gateway, "/v1/chat/completions", messages=USER)
    assert problems(published.CHAT, reply.json()) == []
    answer = await (await client_of(gateway)).chat.completions.create(model="wishes", messages=USER)
    message = answer.choices[0].message
    assert (message.content or "").startswith(("愿姐姐", "您好"))
    assert (message.refusal, message.tool_calls) == (None, None)
    assert (answer.model, answer.choices[0].finish_reason) == ("wishes", "length")


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_chat_that_streams(answering: Any, client_of: Any, engine: str) -> None:
    gateway = await answering(f"{engine}-chat.sse")
    reply = await raw(gateway, "/v1/chat/completions", messages=USER, **COUNTED)
    assert [p for e in events_of(reply) for p in problems(published.CHAT_CHUNK, e)] == []
    got = await (await client_of(gateway)).chat.completions.create(
        model="wishes", messages=USER, **COUNTED
    )
    chunks = [chunk async for chunk in got]
    assert [c.choices[0].delta.role for c in chunks[:2]] == ["assistant", None]
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 12)
    assert [c.choices[0].finish_reason for c in chunks[-3:-1]] == [None, "length"]


@pytest.mark.parametrize("engine", ENGINES)
async def test_completions(answering: Any, client_of: Any, engine: str) -> None:
    gateway = await answering(f"{engine}-text.json")
    reply = await raw(gateway, "/v1/completions", prompt="x")
    assert problems(published.TEXT, reply.json()) == []
    assert reply.json()["id"] != "-1"
    streaming = await answering(f"{engine}-text2.sse")
    reply = await raw(streaming, "/v1/completions", prompt=["x", "y"], **COUNTED)
    assert [p for e in events_of(reply) for p in problems(published.TEXT_CHUNK, e)] == []
    got = await (await client_of(streaming)).completions.create(
        model="wishes", prompt=["x", "y"], **COUNTED
    )
    chunks = [chunk async for chunk in got]
    assert {c.index for chunk in chunks for c in chunk.choices} == {0, 1}
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (2, 4)


async def test_models(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine, aliases=["tianji"])
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        assert problems(published.MODELS, (await http.get("/v1/models")).json()) == []
        assert problems(published.MODEL, (await http.get("/v1/models/tianji")).json()) == []
        nobody = await http.get("/v1/models/nobody")
    assert (nobody.status_code, problems(published.ERROR, nobody.json())) == (404, [])


@pytest.mark.parametrize(
    ("status", "body", "error", "told", "code"),
    [
        (400, (SAID / "lmdeploy-bad.json").read_bytes(), openai.BadRequestError, 400, None),
        (
            400,
            (SAID / "lmdeploy-long.json").read_bytes(),
            openai.BadRequestError,
            400,
            "context_length_exceeded",
        ),
        (
            400,
            (SAID / "llamacpp-long.json").read_bytes(),
            openai.BadRequestError,
            400,
            "context_length_exceeded",
        ),
        (409, b"{}", openai.ConflictError, 409, None),
        (413, b"Request Entity Too Large", openai.APIStatusError, 413, None),
        (422, b'{"detail":"no"}', openai.UnprocessableEntityError, 422, None),
        (429, b"{}", openai.RateLimitError, 429, "rate_limit_exceeded"),
        (404, b'{"detail":"Not Found"}', openai.InternalServerError, 502, "engine_failed"),
        (401, b'{"message":"key"}', openai.InternalServerError, 502, "engine_failed"),
        (
            500,
            (SAID / "lmdeploy-fail.json").read_bytes(),
            openai.InternalServerError,
            502,
            "engine_failed",
        ),
        (500, b"Internal Server Error", openai.InternalServerError, 502, "engine_failed"),
        (503, b'{"message":"asleep"}', openai.InternalServerError, 503, "engine_not_ready"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_an_engine_refuses_arrives_as_the_right_error(
    engine_with: Any,
    gateway_for: Any,
    client_of: Any,
    status: int,
    body: bytes,
    error: type[openai.APIStatusError],
    told: int,
    code: str | None,
    stream: bool,
) -> None:
    engine = await engine_with(status=status, body=body)
    client = await client_of(await gateway_for(engine))
    with pytest.raises(error) as caught:
        await client.chat.completions.create(model="wishes", messages=USER, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (told, code)
    assert problems(published.ERROR, caught.value.response.json()) == []


async def test_what_the_gateway_refuses_arrives_as_the_right_error(
    engine: EngineStub, gateway_for: Any, client_of: Any
) -> None:
    client = await client_of(await gateway_for(engine))
    for named, error in (("nobody", openai.NotFoundError), ("wishes", openai.BadRequestError)):
        with pytest.raises(error) as caught:
            await client.chat.completions.create(model=named, messages=[])
        assert problems(published.ERROR, caught.value.response.json()) == []


async def test_a_failure_in_a_stream_is_an_error_event_and_a_clean_end(
    answering: Any, client_of: Any
) -> None:
    gateway = await answering("lmdeploy-fail.sse")
    *chunks, failure = events_of(
        await raw(gateway, "/v1/chat/completions", messages=USER, stream=True)
    )
    assert [p for c in chunks for p in problems(published.CHAT_CHUNK, c)] == []
    assert problems(published.ERROR, failure) == []
    with pytest.raises(openai.APIError, match="internal server error") as caught:
        await ask(await client_of(gateway), stream=True)
    assert caught.value.code == "engine_failed"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_ends_the_answer_and_the_engines_work(
    engine_with: Any, gateway_for: Any, client_of: Any, stream: bool
) -> None:
    engine = await engine_with(tokens=5000, tokens_per_second=400)
    gateway = await gateway_for(engine, sampling={"stop": ["d3 w"]})
    client = await client_of(gateway)
    got = await client.chat.completions.create(
        model="wishes", messages=USER, stop="word9", **(COUNTED if stream else {})
    )
    if stream:
        chunks = [chunk async for chunk in got]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        end, usage = chunks[-2].choices[0].finish_reason, chunks[-1].usage
    else:
        text, end, usage = got.choices[0].message.content, got.choices[0].finish_reason, got.usage
    assert (text, end) == ("word0 word1 word2 wor", "stop")
    assert usage.completion_tokens == 5
    await engine.until(lambda e: e.aborted and not e.open)
    assert engine.tokens < 100
    assert "stop" not in engine.requests[0].json


@pytest.mark.parametrize(("stops", "waits"), [(None, True), (Stops(["!"]), False)])
async def test_an_engine_that_still_works_for_nobody_is_not_waited_for(
    stops: Stops | None, waits: bool
) -> None:
    reply = AsyncMock()
    delivery = Delivery(Replica("http://127.0.0.1:1"), reply)
    delivery.events = EventStream(Asked("wishes", stops=stops))
    delivery.events.feed(b'data: {"choices":[{"delta":{"content":"a!"}}]}\n\ndata: [DONE]\n\n')
    assert delivery.events.done
    await delivery.finish()
    assert reply.finish.called is waits


async def test_two_whole_answers_in_a_row_use_one_connection(
    engine: EngineStub, gateway_for: Any, client_of: Any
) -> None:
    client = await client_of(await gateway_for(engine, sampling={"stop": ["nothing of it"]}))
    for _ in range(2):
        assert await ask(client) == WORDS
    assert engine.connections == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_a_stop_is_tried_elsewhere_or_told(
    engine: EngineStub, engine_with: Any, gateway_for: Any, client_of: Any, stream: bool
) -> None:
    dying = await engine_with(die="reset", die_after=2, finish=None)
    client = await client_of(await gateway_for(dying, sampling={"stop": ["nothing of it"]}))
    with pytest.raises(openai.APIError) as caught:
        await ask(client, stream=stream)
    assert caught.value.code == "engine_dropped"
    both = await client_of(await gateway_for(dying, engine, sampling={"stop": ["nothing of it"]}))
    if not stream:
        for _ in range(3):
            assert await ask(both) == WORDS


@pytest.mark.parametrize(("kind", "status"), [("turbomind", 400), ("llamacpp", 200)])
async def test_the_kind_of_engine_is_the_engine_hosts_word(
    engine: EngineStub, kind: str, status: int
) -> None:
    async with Host().running() as host:
        await host.set({**replica(engine), "engine": kind})
        house = house_of(declare())
        async with gateway_before(house, engines=f"http://127.0.0.1:{host.port}") as gateway:
            await until_state(gateway, "ready")
            reply = await raw(gateway, "/v1/chat/completions", messages=USER, presence_penalty=0.5)
    assert reply.status_code == status
    if status == 400:
        assert reply.json()["error"]["param"] == "presence_penalty"
        assert problems(published.ERROR, reply.json()) == []
