"""Clients that take their time: with the head, with the body, with reading what they asked for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serve.gateway import client
from tests.engine_stub import EngineStub
from tests.gateway.test_leaving import connect, gate_of, leave, settled

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n"


@pytest.mark.parametrize(
    ("patience", "sent"),
    [
        ("HEAD_SECONDS", b"P"),
        ("HEAD_SECONDS", HEAD),
        ("BODY_SECONDS", HEAD + b"\r\n"),
        ("BODY_SECONDS", HEAD + b'\r\n{"model":'),
    ],
)
async def test_a_request_that_does_not_come_to_its_end(
    engine: EngineStub,
    gateway_for: Any,
    monkeypatch: pytest.MonkeyPatch,
    patience: str,
    sent: bytes,
) -> None:
    monkeypatch.setattr(client, patience, 0.2)
    gateway = await gateway_for(engine)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(sent)
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == "request_timeout"
    await leave(writer)
    await settled(gateway)
    assert engine.requests == []


async def test_a_connection_that_says_nothing_is_closed_without_a_word(
    engine: EngineStub, gateway_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "HEAD_SECONDS", 0.2)
    gateway = await gateway_for(engine)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    await leave(writer)


async def test_an_engine_s_time_is_not_the_client_s(
    engine_with: Any, gateway_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patience in ("HEAD_SECONDS", "BODY_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(client, patience, 0.1)
    gateway = await gateway_for(await engine_with(tokens=10, tokens_per_second=20))
    for _ in range(2):
        reader, writer = await connect(gateway, stream=True)
        async with asyncio.timeout(10):
            await reader.readuntil(b"data: [DONE]\n\n")
        await leave(writer)


async def test_who_does_not_read_is_left(
    engine_with: Any, gateway_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STALLED_SECONDS", 0.3)
    engine = await engine_with(tokens=400_000)
    gateway = await gateway_for(engine)
    reader, writer = await connect(gateway, stream=True)
    await reader.readuntil(b"word1 ")
    await engine.until(lambda e: e.open == 0 and e.aborted, seconds=20)
    await settled(gateway)
    assert gate_of(gateway).inside == 0
    writer.transport.abort()
