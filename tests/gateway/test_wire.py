"""Requests as clients write them on the wire: offers of other protocols, heads without an end,
bodies that are compressed, and what is no HTTP at all; each is answered, in OpenAI's envelope."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from httpx import AsyncClient

from serve.gateway.client import LONGEST_HEAD
from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running
from tests.gateway.test_leaving import connect, leave, settled

BODY = json.dumps({"model": "wishes", "messages": [{"role": "user", "content": "x"}]}).encode()
START = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)
JAVA = (
    b"connection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAMAAABkAAQAoAAA\r\nupgrade: h2c\r\n"
)
SOCKET = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: eA==\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


async def answers(gateway: Running, *sent: bytes, count: int = 1) -> list[tuple[bytes, Any]]:
    """Status line and body of the first answers on one connection, to which this was written, the
    next piece after an answer to the one before."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    found = []
    async with asyncio.timeout(20):
        for part in sent:
            writer.write(part)
            for _ in range(count):
                head = await reader.readuntil(b"\r\n\r\n")
                named = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
                body = await reader.readexactly(int(named[b"content-length"]))
                found.append((head.partition(b"\r\n")[0], json.loads(body)))
    await leave(writer)
    return found


@pytest.mark.parametrize("offer", [JAVA, SOCKET])
@pytest.mark.parametrize(
    "rest", [LENGTH + b"\r\n" + BODY, b"transfer-encoding: chunked\r\n\r\n" + CHUNKS]
)
async def test_an_offer_of_another_protocol_is_not_taken_and_the_request_is_answered(
    engine: EngineStub, gateway_for: Any, offer: bytes, rest: bytes
) -> None:
    gateway = await gateway_for(engine)
    again = START + LENGTH + b"\r\n" + BODY
    found = await answers(gateway, START + offer + rest, again)
    assert [status for status, _ in found] == [b"HTTP/1.1 200 OK"] * 2
    assert [seen.json["messages"][0]["content"] for seen in engine.requests] == ["x", "x"]
    assert all("upgrade" not in seen.headers for seen in engine.requests)


async def test_an_offer_may_come_byte_by_byte(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    request = START + JAVA + LENGTH + b"\r\n" + BODY
    for at in range(len(request)):
        writer.write(request[at : at + 1])
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    await leave(writer)


async def test_a_tunnel_is_not_offered(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    [(status, told)] = await answers(gateway, b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (status, told["error"]["code"]) == (b"HTTP/1.1 400 Bad Request", None)


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        START + b"content-length: 99999999999999999999999\r\n\r\n",
        START + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        START + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_told_so_in_the_envelope(
    engine: EngineStub, gateway_for: Any, sent: bytes
) -> None:
    gateway = await gateway_for(engine)
    [(status, told)] = await answers(gateway, sent)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert told["error"]["type"] == "invalid_request_error"
    await settled(gateway)
    assert engine.requests == []


async def test_what_is_no_request_is_not_written_into_an_answer(
    engine_with: Any, gateway_for: Any
) -> None:
    engine = await engine_with(hang="middle")
    gateway = await gateway_for(engine)
    reader, writer = await connect(gateway, stream=True)
    await reader.readuntil(b"data:")
    writer.write(b"this is no request\r\n\r\n")
    async with asyncio.timeout(20):
        rest = await reader.read()
    assert b"HTTP/1.1 400" not in rest
    await leave(writer)
    await settled(gateway)


async def test_a_head_has_an_end(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    line = b"x-more: " + b"a" * 1000 + b"\r\n"
    writer.write(START + line * (LONGEST_HEAD // len(line) + 1))
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert json.loads(body)["error"]["code"] == "request_too_large"
    await leave(writer)
    await settled(gateway)


async def test_heads_are_not_added_up(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    part = START + b"x-more: " + b"a" * (LONGEST_HEAD * 2 // 3)
    async with asyncio.timeout(20):
        for _ in range(3):
            writer.write(part)
            await arrived(gateway, len(part))
            writer.write(b"\r\n" + LENGTH + b"\r\n" + BODY)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = next(line for line in head.lower().split(b"\r\n") if b"content-l" in line)
            await reader.readexactly(int(length.split(b":")[1]))
    await leave(writer)


async def arrived(gateway: Running, size: int) -> None:
    """Until the gateway has read so much of a head."""
    clients: Any = gateway.server.server_state.connections
    while not any(c._head_open and c._head_size >= size for c in clients):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_compressed_body_is_refused_by_its_name(
    engine: EngineStub, gateway_for: Any
) -> None:
    gateway = await gateway_for(engine)
    async with AsyncClient(base_url=gateway.url, timeout=20) as http:
        path, packed = "/v1/chat/completions", gzip.compress(BODY)
        refused = await http.post(path, content=packed, headers={"content-encoding": "gzip"})
        taken = await http.post(path, content=BODY, headers={"content-encoding": "identity"})
    assert (refused.status_code, taken.status_code) == (415, 200)
    assert "compressed" in refused.json()["error"]["message"]


async def test_a_path_is_never_answered_with_another(engine: EngineStub, gateway_for: Any) -> None:
    """A redirect would name a scheme and a host that a proxy in front has changed."""
    gateway = await gateway_for(engine)
    async with AsyncClient(base_url=gateway.url, timeout=20) as http:
        told = await http.post("/v1/chat/completions/", content=BODY)
    assert told.status_code == 404
    assert "Did you mean /v1/chat/completions?" in told.json()["error"]["message"]
