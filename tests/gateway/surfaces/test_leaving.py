"""A client that leaves has its request to the engine ended, in whatever words it asked."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.engine_stub import EngineStub, Plan
from tests.gateway.conftest import Running
from tests.gateway.surfaces import checked

ASKED = {
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": checked.USER, "max_tokens": 9},
}


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_engine_s_work_ends(
    gateway_for: Any, engine: EngineStub, path: str, stream: bool
) -> None:
    engine.plan = Plan(hang="middle", die_after=1) if stream else Plan(hang="head")
    gateway: Running = await gateway_for(engine)
    body = {"model": "wishes", "stream": stream, **ASKED[path]}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=None) as http:
        if stream:
            async with http.stream("POST", path, json=body) as answer:
                await anext(answer.aiter_raw())
        else:
            asking = asyncio.create_task(http.post(path, json=body))
            await engine.until(lambda seen: seen.open)
            asking.cancel()
        await engine.until(lambda seen: seen.aborted and not seen.open)
