"""What nobody sends who means well: it is told what is wrong with it, and costs next to nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from serve.gateway.admission.keys import KeySources
from serve.gateway.client import GATHERED, LONGEST_HEAD
from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running
from tests.gateway.test_leaving import leave, settled

BODY = json.dumps({"model": "wishes", "messages": [{"role": "user", "content": "x"}]}).encode()
START = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
PROMPTS = "/v1/assistants/wishes/prompt"
KEY = b"authorization: Bearer hl-a\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
WHOLE = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
LENGTH = b"content-length: %d\r\n\r\n" % len(BODY)


@pytest.fixture
async def locked(engine: EngineStub, gateway_for: Any) -> Running:
    """A gateway that wants a key, and reads ten thousand bytes."""
    settings = {"keys": KeySources(plain=("hl-a",)), "max_body_bytes": 10_000}
    running: Running = await gateway_for(engine, settings=settings)
    return running


async def told(gateway: Running, *sent: bytes) -> bytes:
    """All that is answered before the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    found = asyncio.create_task(reader.read())
    async with asyncio.timeout(20):
        try:
            for part in sent:
                writer.write(part)
                await writer.drain()
        except ConnectionError:
            pass  # it has been closed: that is the answer
        try:
            answer = await found
        except ConnectionError:
            answer = b""
    writer.transport.abort()
    return answer


@pytest.mark.parametrize("pieces", [1, 2])
async def test_what_follows_a_body_is_no_header(
    engine: EngineStub, locked: Running, pieces: int
) -> None:
    """A key there would let in a request that a proxy in front has looked at and let pass."""
    request = START + b"connection: close\r\n" + CHUNKED + WHOLE + KEY + b"\r\n"
    at = len(START) + 5 if pieces == 2 else len(request)
    answer = await told(locked, request[:at], request[at:])
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert engine.requests == []


@pytest.mark.parametrize("line", [b"x: " + b"x" * 1000 + b"\r\n", b"x" * 1000])
async def test_what_follows_a_body_has_an_end(locked: Running, line: bytes) -> None:
    start = START + KEY + CHUNKED + WHOLE + b"x: "
    answer = await told(locked, start, *[line] * (5 * LONGEST_HEAD // len(line)))
    if answer:  # it is lost where the rest was still being sent
        assert answer.startswith(b"HTTP/1.1 431 ")
    await settled(locked)


async def test_a_body_in_many_chunks_is_no_such_thing(locked: Running) -> None:
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in BODY + b" " * (10_000 - len(BODY)))
    request = START + KEY + b"connection: close\r\n" + CHUNKED + chunks + b"0\r\n\r\n"
    pieces = [request[at : at + 777] for at in range(0, len(request), 777)]
    assert (await told(locked, *pieces)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("key", "status"), [(b"hl-a", b"413"), (b"hl-b", b"401")])
@pytest.mark.parametrize("how", [b"content-length: 9999999\r\n\r\n", CHUNKED + b"ffffff\r\n"])
async def test_a_prompt_too_has_an_end_and_not_everybody_s_is_read(
    locked: Running, key: bytes, status: bytes, how: bytes
) -> None:
    head = b"POST %b HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\n" % (PROMPTS.encode(), key)
    reader, writer = await asyncio.open_connection("127.0.0.1", locked.port)
    writer.write(head + how + b" " * (GATHERED + 1))
    async with asyncio.timeout(20):
        answer = await reader.readuntil(b"}")
    writer.transport.abort()
    assert answer.split()[1] == status


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"message":"\\ud800"}', None),
        (b'{"values":{"a":1e999}}', "values.a"),
        (b"[" * 5000, None),
        (b'{"a":' + b"9" * 5000 + b"}", None),
        (b"\xff", None),
        (b"", None),
    ],
)
async def test_a_prompt_that_cannot_be_read(locked: Running, body: bytes, param: str) -> None:
    headers = {"x-api-key": "hl-a"}
    async with httpx.AsyncClient(base_url=locked.url, headers=headers) as http:
        answer = await http.post(PROMPTS, content=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_mistake_of_ours_is_told_in_the_envelope(locked: Running) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    locked.app.mount("/broken", broken)
    async with httpx.AsyncClient(base_url=locked.url) as http:
        answer = await http.get("/broken/here")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (500, "internal_error")
    assert "ZeroDivision" not in error["message"]


async def test_nothing_is_written_into_the_answer_before_the_one_that_waits(
    engine_with: Any, gateway_for: Any
) -> None:
    """A request, and behind it another with nonsense after it: the first is being answered."""
    engine = await engine_with(hang="middle")
    gateway = await gateway_for(engine)
    body = BODY.replace(b'"model"', b'"stream":true,"model"')
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(START + b"content-length: %d\r\n\r\n" % len(body) + body)
    async with asyncio.timeout(20):
        await reader.readuntil(b"word0")
        writer.write(START + LENGTH + BODY + b"this is no request\r\n\r\n")
        rest = await reader.read()
    assert b"HTTP/1.1" not in rest
    await leave(writer)
    await settled(gateway)
