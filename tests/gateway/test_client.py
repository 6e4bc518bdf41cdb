"""A client's connection beyond uvicorn's: heads wait for what follows, parts go out at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from serve.gateway.client import GATHERED, HeadFirst
from tests.engine_stub import EngineStub
from tests.gateway.test_leaving import connect, held_back, leave, settled

GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
BODY = json.dumps({"model": "wishes", "messages": [{"role": "user", "content": "x"}]}).encode()


class Written:
    """A transport that remembers what it was given."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(data)

    def close(self) -> None:
        self.parts.append(b"closed")

    def is_closing(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("writes", "sent"),
    [
        ([b"head", b"body"], [b"headbody"]),
        ([b"head", b"a", b"b"], [b"heada", b"b"]),
        ([b"head", b""], [b"head"]),
        ([GO_ON, b"head", b"x"], [GO_ON, b"headx"]),
    ],
)
def test_a_head_leaves_with_what_follows_it(writes: list[bytes], sent: list[bytes]) -> None:
    written = Written()
    transport = HeadFirst(cast(asyncio.Transport, written))
    for data in writes:
        transport.write(data)
    assert written.parts == sent


def test_a_head_that_nothing_follows_leaves_before_the_end() -> None:
    written = Written()
    transport = HeadFirst(cast(asyncio.Transport, written))
    transport.write(b"head")
    transport.close()
    assert written.parts == [b"head", b"closed"]


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    return head, await reader.readexactly(length)


async def test_who_asks_first_whether_to_go_on_is_told(
    engine: EngineStub, gateway_for: Any
) -> None:
    gateway = await gateway_for(engine)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"host: x\r\nexpect: 100-continue\r\ncontent-length: {len(BODY)}"
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == GO_ON
        writer.write(BODY)
        told, body = await _answer(reader)
    assert told.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)["choices"]
    await leave(writer)


async def test_a_head_alone_is_answered_and_the_connection_goes_on(
    engine: EngineStub, gateway_for: Any
) -> None:
    gateway = await gateway_for(engine)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"HEAD /docs HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
        told, body = await _answer(reader)
    assert (told[:12], body) == (b"HTTP/1.1 200", b'{"status":"ok"}')
    await leave(writer)


@pytest.mark.parametrize("size", [0, 1, 70_000, GATHERED - 100, GATHERED + 1, 3 * GATHERED])
async def test_a_body_arrives_whole_however_it_came(
    engine: EngineStub, gateway_for: Any, size: int
) -> None:
    gateway = await gateway_for(engine)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    said = "".join(chr(0x4E00 + i % 5000) for i in range(size // 3))
    body = json.dumps(
        {"model": "wishes", "messages": [{"role": "user", "content": said}]}, ensure_ascii=False
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    data = head.encode() + body
    async with asyncio.timeout(20):
        for start in range(0, len(data), 50_001):
            writer.write(data[start : start + 50_001])
            await writer.drain()
        told, _ = await _answer(reader)
    assert told.startswith(b"HTTP/1.1 200 ")
    assert json.loads(engine.requests[-1].body)["messages"][-1]["content"] == said
    await leave(writer)


async def test_who_reads_late_is_sent_all_of_it_in_order(
    engine_with: Any, gateway_for: Any
) -> None:
    tokens = 150_000
    engine: EngineStub = await engine_with(tokens=tokens)
    gateway = await gateway_for(engine)
    reader, writer = await connect(gateway, stream=True)
    await held_back(gateway)
    assert 0 < engine.tokens < tokens  # what is not read makes the engine wait
    seen = bytearray()
    async with asyncio.timeout(60):
        while not seen.endswith(b"\r\n0\r\n\r\n"):
            seen += await reader.read(200_000)
    words = [part.split(b" ")[0] for part in bytes(seen).split(b'"word')[1:]]
    assert words == [str(i).encode() for i in range(tokens)]
    assert b"data: [DONE]" in seen[-100:]
    await leave(writer)
    await settled(gateway)


@pytest.mark.parametrize("hang", ["head", "middle"])
async def test_who_sends_one_behind_the_other_and_leaves_is_no_mistake_of_ours(
    engine_with: Any, gateway_for: Any, caplog: pytest.LogCaptureFixture, hang: str
) -> None:
    engine: EngineStub = await engine_with(hang=hang, die_after=2)
    gateway = await gateway_for(engine)
    reader, writer = await connect(gateway, stream=True)
    await engine.until(lambda e: e.open == 1)
    if hang == "middle":
        await reader.readuntil(b"word1")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n\r\n"
    writer.write((head.encode() + BODY) * 2)
    clients: Any = gateway.server.server_state.connections
    async with asyncio.timeout(10):
        while not any(len(client.pipeline) == 2 for client in clients):  # noqa: ASYNC110
            await asyncio.sleep(0)
    await leave(writer)
    await engine.until(lambda e: e.open == 0)
    await settled(gateway)
    assert len(engine.requests) == 1
    assert not caplog.records
