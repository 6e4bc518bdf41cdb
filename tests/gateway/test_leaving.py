"""A client that leaves, in any phase, ends the engine's work; nothing stays open anywhere."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running, session_with


async def connect(
    gateway: Running, *, stream: bool, session: str = "", said: str = "x"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection with a request written to it."""
    body = {"model": "wishes", "messages": [{"role": "user", "content": said}], "stream": stream}
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"host: x\r\nx-session-id: {session}\r\ncontent-length: {len(data)}"
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n\r\n".encode() + data)
    return reader, writer


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def gate_of(gateway: Running) -> Any:
    completion: Any = gateway.app.hot["/v1/chat/completions"]
    return completion._way.admission.gate("wishes")


async def settled(gateway: Running) -> None:
    """Until the gateway has no request left; its server keeps the tasks."""
    async with asyncio.timeout(10):
        while tasks := gateway.server.server_state.tasks:
            await asyncio.wait(tasks)


async def held_back(gateway: Running) -> None:
    """Until the gateway reads no more from an engine, because what is between is full."""
    completion: Any = gateway.app.hot["/v1/chat/completions"]
    upstream = completion._way.deliverer._upstream
    async with asyncio.timeout(30):
        while not any(c._paused for o in upstream._origins.values() for c in o.busy):  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.mark.parametrize(("hang", "stream"), [("head", False), ("head", True), ("first", True)])
async def test_before_the_first_byte(
    engine_with: Any, gateway_for: Any, stream: bool, hang: str
) -> None:
    engine: EngineStub = await engine_with(hang=hang)
    gateway = await gateway_for(engine)
    _, writer = await connect(gateway, stream=stream)
    await engine.until(lambda e: e.open == 1)
    await leave(writer)
    await engine.until(lambda e: len(e.aborted) == 1 and e.open == 0)
    await settled(gateway)
    assert gate_of(gateway).inside == 0
    assert len(engine.requests) == 1


@pytest.mark.parametrize("size", [100_000, 2_000_000])
async def test_after_a_large_body(engine_with: Any, gateway_for: Any, size: int) -> None:
    engine: EngineStub = await engine_with(hang="head")
    gateway = await gateway_for(engine)
    _, writer = await connect(gateway, stream=True, said="x" * size)
    await engine.until(lambda e: e.open == 1)
    await leave(writer)
    await engine.until(lambda e: len(e.aborted) == 1 and e.open == 0)
    await settled(gateway)


async def test_in_the_middle_of_a_stream(engine_with: Any, gateway_for: Any) -> None:
    engine = await engine_with(tokens=10_000, tokens_per_second=200)
    gateway = await gateway_for(engine)
    reader, writer = await connect(gateway, stream=True)
    await reader.readuntil(b"word3")
    await leave(writer)
    await engine.until(lambda e: len(e.aborted) == 1 and e.open == 0)
    await settled(gateway)
    assert gate_of(gateway).inside == 0


async def test_in_the_middle_of_a_silent_stream(engine_with: Any, gateway_for: Any) -> None:
    engine = await engine_with(hang="middle", die_after=2)
    gateway = await gateway_for(engine)
    reader, writer = await connect(gateway, stream=True)
    await reader.readuntil(b"word1")
    await leave(writer)
    await engine.until(lambda e: len(e.aborted) == 1 and e.open == 0)


async def test_while_a_whole_answer_is_made(engine_with: Any, gateway_for: Any) -> None:
    engine = await engine_with(tokens=1000, tokens_per_second=1)
    gateway = await gateway_for(engine)
    _, writer = await connect(gateway, stream=False)
    await engine.until(lambda e: e.open == 1)
    await leave(writer)
    await engine.until(lambda e: len(e.aborted) == 1)


async def test_in_the_queue(engine_with: Any, gateway_for: Any) -> None:
    engine = await engine_with(hang="head")
    gateway = await gateway_for(engine, limits={"concurrency": 1, "queue": 5})
    _, first = await connect(gateway, stream=True)
    await engine.until(lambda e: e.open == 1)
    _, second = await connect(gateway, stream=True)
    async with asyncio.timeout(10):
        while gate_of(gateway).waiting != 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await leave(second)
        while gate_of(gateway).waiting != 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(engine.requests) == 1
    await leave(first)
    await engine.until(lambda e: e.open == 0)


async def test_before_the_body_is_whole(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{")
    async with asyncio.timeout(10):
        while not gateway.server.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await leave(writer)
    await settled(gateway)
    assert engine.requests == []


async def test_a_client_that_does_not_read_holds_the_engine_back(
    engine_with: Any, gateway_for: Any
) -> None:
    engine = await engine_with(tokens=200_000)
    gateway = await gateway_for(engine)
    reader, writer = await connect(gateway, stream=True)
    await reader.readuntil(b"word1 ")
    await held_back(gateway)
    assert engine.tokens < 200_000
    await leave(writer)
    await engine.until(lambda e: e.open == 0 and e.aborted)
    await settled(gateway)


async def test_a_hung_engine_is_not_asked_again_while_another_is_free(
    engine: EngineStub, engine_with: Any, gateway_for: Any
) -> None:
    hung = await engine_with(hang="head")
    gateway = await gateway_for(hung, engine)
    session = session_with(hung, engine)
    _, writer = await connect(gateway, stream=False, session=session)
    await hung.until(lambda e: e.open == 1)
    await leave(writer)
    await settled(gateway)
    for _ in range(6):
        reader, writer = await connect(gateway, stream=False, session=session)
        await reader.readuntil(b"word4")
        await leave(writer)
    assert (len(hung.requests), len(engine.requests)) == (1, 6)


async def test_many_leave_and_nothing_is_left(engine_with: Any, gateway_for: Any) -> None:
    engine = await engine_with(tokens=10_000, tokens_per_second=100)
    gateway = await gateway_for(engine)

    async def come_and_go() -> None:
        reader, writer = await connect(gateway, stream=True)
        await reader.readuntil(b"word1")
        await leave(writer)

    await asyncio.gather(*[come_and_go() for _ in range(30)])
    await engine.until(lambda e: len(e.aborted) == 30 and e.open == 0)
    await settled(gateway)
    assert gate_of(gateway).inside == 0
