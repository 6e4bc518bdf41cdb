"""A request for an engine that is not there yet waits, is heard of meanwhile, and is told why."""

from __future__ import annotations

import asyncio
import signal
from typing import Any
from urllib.parse import parse_qs

import anthropic
import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running, declare, gateway_before, house_of
from tests.gateway.test_engine_host import BODY, Host, ask, replica, until_state

STOPPED = {"assistant": "wishes", "id": "wishes-1", "url": None, "state": "stopped"}
STREAM = {**BODY, "stream": True}


@pytest.fixture
async def host(stack: Any) -> Host:
    started: Host = await stack.enter_async_context(Host().running())
    started.replicas = [STOPPED]
    return started


@pytest.fixture
def before(stack: Any, host: Host) -> Any:
    async def start(*, declared: Any = None, **settings: Any) -> Running:
        given = {"start_seconds": 5, "first_sign_seconds": 0.1, "sign_seconds": 0.1, **settings}
        running: Running = await stack.enter_async_context(
            gateway_before(
                house_of(declare(**(declared or {}))),
                engines=f"http://127.0.0.1:{host.port}",
                **given,
            )
        )
        return running

    return start


def warming(host: Host, engine: EngineStub, *, after: float = 0.35) -> Any:
    """What a host does when it is asked: it makes the engine ready, but not at once."""
    tasks: set[asyncio.Task[None]] = set()

    async def warm() -> None:
        await asyncio.sleep(after)
        await host.set(replica(engine))

    async def on_start() -> None:
        await host.set(replica(engine, "starting", reason="waits for room: poetry is busy"))
        tasks.add(asyncio.create_task(warm()))

    return on_start


async def test_a_stream_hears_why_it_waits_and_is_then_answered(
    host: Host, before: Any, engine: EngineStub
) -> None:
    host.on_start = warming(host, engine)
    gateway = await before()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        reply = await http.post("/v1/chat/completions", json=STREAM)
    blocks = reply.text.split("\n\n")
    assert reply.status_code == 200
    comments = [block for block in blocks if block.startswith(":")]
    assert comments[0] == ": the engine of 'wishes' is starting"
    assert 2 <= len(comments) <= 5
    assert blocks.index(comments[-1]) < blocks.index("data: [DONE]")
    assert "word0" in reply.text


async def test_openai_s_and_anthropic_s_clients_do_not_mind(
    host: Host, before: Any, engine: EngineStub
) -> None:
    host.on_start = warming(host, engine)
    gateway = await before()
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
        stream = await client.chat.completions.create(**STREAM)  # type: ignore[call-overload]
        said = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(said).startswith("word0 ")
    await host.set(STOPPED)
    await until_state(gateway, "stopped")
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key="x", max_retries=0) as client,
        client.messages.stream(model="wishes", max_tokens=5, messages=BODY["messages"]) as events,  # type: ignore[arg-type]
    ):
        assert (await events.get_final_text()).startswith("word0 ")


async def test_whoever_was_told_to_wait_in_vain_is_told_in_the_stream(
    host: Host, before: Any, engine: EngineStub
) -> None:
    async def fail() -> None:
        await host.set(replica(engine, "starting"))

        async def later() -> None:
            await asyncio.sleep(0.3)
            await host.set(replica(engine, "failed", reason="memory ran out"))

        host.later = asyncio.create_task(later())  # type: ignore[attr-defined]

    host.on_start = fail
    gateway = await before()
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
        stream = await client.chat.completions.create(**STREAM)  # type: ignore[call-overload]
        with pytest.raises(openai.APIError, match="has failed: memory ran out"):
            async for _ in stream:
                pass


async def test_a_refusal_before_the_first_sign_has_a_status(
    host: Host, before: Any, engine: EngineStub
) -> None:
    gateway = await before(start_seconds=0.3, first_sign_seconds=10)
    host.on_start = warming(host, engine, after=60)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        reply = await http.post("/v1/chat/completions", json=STREAM)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")
    assert reply.json()["error"]["message"].endswith("waits for room: poetry is busy")


async def test_a_whole_answer_waits_in_silence(host: Host, before: Any, engine: EngineStub) -> None:
    host.on_start = warming(host, engine)
    reply = await ask(await before())
    assert reply.status_code == 200
    assert reply.text.startswith("{")


async def test_an_engine_that_failed_is_not_waited_for(
    host: Host, before: Any, engine: EngineStub
) -> None:
    async def fail() -> None:
        await host.set(replica(engine, "failed", reason="the port is taken"))

    host.on_start = fail
    reply = await ask(await before(start_seconds=3600))
    assert reply.status_code == 503
    assert reply.json()["error"]["message"].endswith("has failed: the port is taken")


async def test_what_can_never_be_started_is_said_in_the_host_s_words(
    host: Host, before: Any
) -> None:
    host.refusal = "'wishes' needs 30.00 GiB and the GPU has 24.00 GiB."
    reply = await ask(await before())
    assert reply.status_code == 503
    assert reply.json()["error"]["message"].endswith(host.refusal)


async def test_many_who_wait_ask_once_and_all_are_counted(
    host: Host, before: Any, engine: EngineStub
) -> None:
    gateway = await before()
    await until_state(gateway, "stopped")
    held = asyncio.Event()

    async def hold() -> None:
        await held.wait()
        await host.set(replica(engine, "starting"))

    host.on_start = hold
    asking = [asyncio.create_task(ask(gateway)) for _ in range(20)]
    async with asyncio.timeout(60):
        while gateway.app.hot["/v1/chat/completions"]._way.admission.gate("wishes").inside < 20:  # type: ignore[attr-defined] # noqa: ASYNC110
            await asyncio.sleep(0.01)
    held.set()
    await until_state(gateway, "starting")
    assert host.started == ["wishes"]
    assert host.said[0]["busy"]["wishes"] >= 1
    assert len(host.said[0]["gateway"]) == 32
    async with asyncio.timeout(60):
        while parse_qs(host.asked[-1]).get("busy") != ["wishes:20"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await host.set(replica(engine))
    assert {reply.status_code for reply in await asyncio.gather(*asking)} == {200}


async def test_the_host_is_told_what_is_in_flight_and_when_that_has_ended(
    host: Host, before: Any, engine_with: Any
) -> None:
    engine: EngineStub = await engine_with(hang="first")
    host.replicas = [replica(engine, id="wishes-1")]
    gateway = await before()
    await until_state(gateway, "ready")
    asking = asyncio.create_task(ask_stream(gateway))
    await engine.until(lambda e: e.open == 1)
    await host.set(replica(engine, "draining", id="wishes-1"))
    await until_asked(host, lambda q: q.get("in_flight") == ["wishes-1:1"])
    said = parse_qs(host.asked[-1])
    assert (said["busy"], said["after"], said["wait"]) == (["wishes:1"], [str(host.version)], ["1"])
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await engine.until(lambda e: e.open == 0)
    await host.set(replica(engine, "draining", id="wishes-1"))
    await until_asked(host, lambda q: q.get("after") == [str(host.version)])
    said = parse_qs(host.asked[-1])
    assert "in_flight" not in said
    assert said["wait"] == ["25"]
    assert 0 <= float(said["idle"][0].removeprefix("wishes:")) < 20


async def test_an_engine_that_was_killed_costs_no_request_that_had_not_begun(
    host: Host, before: Any, engine: EngineStub
) -> None:
    dead = {**replica(engine), "url": "http://127.0.0.1:1"}
    host.replicas = [dead]
    gateway = await before()
    await until_state(gateway, "ready")
    asking = [asyncio.create_task(ask(gateway)) for _ in range(5)]
    (known,) = gateway.app.hot["/v1/chat/completions"]._way.deliverer._replicas.of("wishes")  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        while known.unanswered < len(asking):  # they find it dead before its host does  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await host.set({**dead, "state": "starting", "url": ""})
    await host.set(replica(engine))
    assert {reply.status_code for reply in await asyncio.gather(*asking)} == {200}


async def test_an_engine_that_fails_but_lives_is_not_waited_for(host: Host, before: Any) -> None:
    host.replicas = [{**STOPPED, "state": "ready", "url": "http://127.0.0.1:1"}]
    gateway = await before()
    await until_state(gateway, "ready")
    reply = await ask(gateway)
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "engine_unreachable")


async def test_who_waits_when_the_gateway_is_to_end_is_told(
    host: Host, before: Any, engine: EngineStub
) -> None:
    host.on_start = warming(host, engine, after=60)
    gateway = await before(first_sign_seconds=10, drain_grace_seconds=30)
    asking = asyncio.create_task(ask(gateway))
    async with asyncio.timeout(60):
        while not host.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    gateway.server.handle_exit(signal.SIGTERM, None)
    reply = await asking
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "gateway_stopping")
    assert reply.headers["retry-after"]


async def test_host_and_engine_are_shown_the_key(
    host: Host, before: Any, engine: EngineStub
) -> None:
    host.replicas = [replica(engine)]
    gateway = await before(engines_key="open sesame")
    await until_state(gateway, "ready")
    assert (await ask(gateway)).status_code == 200
    assert host.keys[0] == "Bearer open sesame"
    assert engine.requests[-1].headers["authorization"] == "Bearer open sesame"


async def ask_stream(gateway: Running) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        await http.post("/v1/chat/completions", json=STREAM)


async def until_asked(host: Host, true: Any) -> None:
    async with asyncio.timeout(60):
        while not true(parse_qs(host.asked[-1])):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
