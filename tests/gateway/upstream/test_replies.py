"""A reply in every form it may have, and in every wrong one, from real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve.gateway.errors import EngineDroppedError, EngineFailedError
from serve.gateway.upstream.pool import Upstream
from serve.gateway.upstream.reply import MOST_UNREAD
from tests.gateway.upstream.sockets import (
    BEGUN,
    CHUNKED,
    CONTINUED,
    LENGTH,
    ask,
    read_request,
    saying,
    text,
)

HELLO = b"hello, world"


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, CONTINUED], ids=["length", "chunked", "100"])
async def test_an_answer_may_be_cut_anywhere(
    upstream: Upstream, answer: bytes, engine_that: Any
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(len(answer)):
            await read_request(reader)
            writer.write(answer[:at])
            await asyncio.sleep(0.0005)
            writer.write(answer[at:])

    engine = await engine_that(script)
    for _ in range(len(answer)):
        assert await text(upstream, engine.url) == b"hello, world"
    assert engine.connections == 1


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, CONTINUED], ids=["length", "chunked", "100"])
async def test_an_answer_may_come_byte_by_byte(
    upstream: Upstream, answer: bytes, engine_that: Any
) -> None:
    engine = await engine_that(saying(answer, answer, pieces=1))
    for _ in range(2):
        reply = await ask(upstream, engine.url)
        assert (reply.status, reply.streams) == (200, answer is CHUNKED)
        assert await reply.body() == b"hello, world"
    assert engine.connections == 1


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 \r\nServer: x\r\n\r\n"],
)
async def test_a_body_may_last_until_the_end(
    upstream: Upstream, engine_that: Any, head: bytes
) -> None:
    engine = await engine_that(saying(head + b"hello, ", end="close", pieces=4))
    for _ in range(2):
        assert await text(upstream, engine.url) == b"hello, "
    assert engine.connections == 2
    reset = await engine_that(saying(head + b"hello, ", end="reset"))
    with pytest.raises(EngineDroppedError):
        await text(upstream, reset.url)


@pytest.mark.parametrize(
    ("answer", "body", "kept"),
    [
        (LENGTH.replace(b"HTTP/1.1", b"HTTP/1.0"), HELLO, False),
        (
            LENGTH.replace(b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK\r\nconnection: keep-alive"),
            HELLO,
            True,
        ),
        (LENGTH.replace(b"OK", b"OK\r\nConnection: close"), HELLO, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", True),
        (LENGTH + b"\r\n", HELLO, True),
        (LENGTH + LENGTH, HELLO, False),
        (LENGTH + b"garbage", HELLO, False),
    ],
)
async def test_what_keeps_a_connection(
    upstream: Upstream, engine_that: Any, answer: bytes, body: bytes, kept: bool
) -> None:
    engine = await engine_that(saying(answer, answer))
    for _ in range(2):
        assert await text(upstream, engine.url) == body
    assert engine.connections == (1 if kept else 2)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", EngineFailedError),
        (b"\x15\x03\x01\x00\x02\x02\x50", EngineFailedError),
        (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", EngineFailedError),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", EngineFailedError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", EngineFailedError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", EngineFailedError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", EngineFailedError),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9000, EngineFailedError),
    ],
)
async def test_what_is_not_http_is_an_error(
    upstream: Upstream, engine_that: Any, answer: bytes, error: Any
) -> None:
    engine = await engine_that(saying(answer, pieces=4096))
    with pytest.raises(error or EngineFailedError):
        await text(upstream, engine.url)
    async with asyncio.timeout(5):
        await engine.left.wait()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("answer", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_an_end_in_any_phase_is_an_error(
    upstream: Upstream, engine_that: Any, answer: bytes, end: str
) -> None:
    head = answer.index(b"\r\n\r\n") + 4
    for at in (0, 1, 9, head - 1, head, head + 3, len(answer) - 1):
        engine = await engine_that(saying(answer[:at], end=end))
        with pytest.raises(EngineDroppedError):
            await text(upstream, engine.url)
        assert engine.connections == 1


async def test_what_came_before_the_end_is_read_first(upstream: Upstream, engine_that: Any) -> None:
    engine = await engine_that(saying(BEGUN, end="close"))
    reply = await ask(upstream, engine.url)
    assert await reply.chunk() == b"hello"
    with pytest.raises(EngineDroppedError):
        await reply.chunk()
    with pytest.raises(EngineDroppedError):
        await reply.chunk()


async def test_a_reader_that_lags_holds_the_engine_back(
    upstream: Upstream, engine_that: Any
) -> None:
    piece, sent = b"4000\r\n" + b"x" * 0x4000 + b"\r\n", 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(2000):
            writer.write(piece)
            await writer.drain()
            sent += 0x4000
        writer.write(b"0\r\n\r\n")
        await reader.readexactly(1)

    engine = await engine_that(script)
    reply = await ask(upstream, engine.url)
    connection: Any = reply._connection
    async with asyncio.timeout(10):
        while not connection._paused:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert sent < 2000 * 0x4000
    size = len(await reply.chunk())
    assert MOST_UNREAD < size < MOST_UNREAD + (1 << 18)
    while part := await reply.chunk():
        size += len(part)
    assert size == 2000 * 0x4000


async def test_an_answer_without_an_end_is_given_up(
    upstream: Upstream, engine_that: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    monkeypatch.setattr("serve.gateway.upstream.reply.LONGEST_BODY", 1 << 20)
    engine = await engine_that(script)
    with pytest.raises(EngineFailedError, match="too long"):
        await text(upstream, engine.url)
    async with asyncio.timeout(5):
        await engine.left.wait()


async def test_requests_arrive_as_they_were_meant(upstream: Upstream, engine_that: Any) -> None:
    heard = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heard.append(await read_request(reader))
            writer.write(LENGTH)

    engine = await engine_that(script)
    host = engine.url.split("/")[2].encode()
    body = b"x" * 3_000_000
    await text(upstream, engine.url, body=body, headers={"x-name": "\xe9t\xe9"})
    await text(upstream, engine.url + "?after=7&wait=2", body=None)
    assert heard == [
        b"POST /v1/x HTTP/1.1\r\nhost: " + host + b"\r\ncontent-length: 3000000\r\n"
        b"x-name: \xe9t\xe9\r\n\r\n" + body,
        b"GET /v1/x?after=7&wait=2 HTTP/1.1\r\nhost: " + host + b"\r\n\r\n",
    ]
    for value in ("a\r\nx: y", "a\nb", "a\rb"):
        with pytest.raises(ValueError, match="line break"):
            await ask(upstream, engine.url, headers={"x-name": value})


async def test_a_redirect_is_an_answer_like_any_other(upstream: Upstream, engine_that: Any) -> None:
    engine = await engine_that(
        saying(b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
    )
    assert (await ask(upstream, engine.url)).status == 307


@pytest.mark.parametrize(("value", "seconds"), [(b"7", 7), (b"soon", None), (b"9999999", None)])
async def test_when_to_come_back(
    upstream: Upstream, engine_that: Any, value: bytes, seconds: int | None
) -> None:
    answer = LENGTH.replace(b"200 OK", b"429 Busy\r\nRetry-After: " + value)
    engine = await engine_that(saying(answer))
    assert (await ask(upstream, engine.url)).retry_after == seconds


async def test_a_body_whose_end_does_not_come_holds_nobody_up(
    upstream: Upstream, engine_that: Any
) -> None:
    engine = await engine_that(saying(BEGUN))
    reply = await ask(upstream, engine.url, seconds=120)
    async with asyncio.timeout(30):
        await reply.finish()
        reply.close()
        await engine.left.wait()
