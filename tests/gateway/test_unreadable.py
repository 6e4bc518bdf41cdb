"""Requests that the gateway itself refuses: too many, too large, not to be read."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai
import pytest

from tests.engine_stub import EngineStub
from tests.gateway.test_failures import ask


async def test_a_full_assistant_says_when_to_come_back(
    engine_with: Any, gateway_for: Any, client_of: Any
) -> None:
    engine = await engine_with(hang="head")
    gateway = await gateway_for(engine, limits={"concurrency": 1, "queue": 0})
    client = await client_of(gateway)
    first = asyncio.create_task(ask(client))
    await engine.until(lambda e: e.open == 1)
    with pytest.raises(openai.RateLimitError, match="is busy") as caught:
        await ask(client)
    assert caught.value.response.headers["retry-after"] == "2"
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_that_is_too_large(
    engine: EngineStub, gateway_for: Any, announced: bool
) -> None:
    gateway = await gateway_for(engine, settings={"max_body_bytes": 1000})
    body = b"x" * 200_000

    async def pieces() -> Any:
        yield body

    async with httpx.AsyncClient(timeout=20) as http:
        reply = await http.post(
            f"{gateway.url}/v1/chat/completions", content=body if announced else pieces()
        )
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"model"', b'{"model":"\xff"}', b"{}"])
async def test_a_body_that_cannot_be_read(
    engine: EngineStub, gateway_for: Any, body: bytes
) -> None:
    gateway = await gateway_for(engine)
    async with httpx.AsyncClient() as http:
        reply = await http.post(f"{gateway.url}/v1/chat/completions", content=body)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
    assert engine.requests == []
