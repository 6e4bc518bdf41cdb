"""The official clients of both surfaces before a stand-in engine, and what they are asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running

Connect = Callable[..., Any]


@pytest.fixture
async def client(client_of: Any, gateway_for: Any, engine: EngineStub) -> AsyncOpenAI:
    """OpenAI's."""
    connected: AsyncOpenAI = await client_of(await gateway_for(engine, system="be kind"))
    return connected


@pytest.fixture
def connect(stack: AsyncExitStack) -> Connect:
    """Anthropic's, without retries of its own, so that a failure is seen."""

    async def start(gateway: Running, key: str = "any") -> AsyncAnthropic:
        client = AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=0, timeout=20)
        return await stack.enter_async_context(client)

    return start


@pytest.fixture
async def claude(connect: Connect, gateway_for: Any, engine: EngineStub) -> AsyncAnthropic:
    connected: AsyncAnthropic = await connect(await gateway_for(engine, system="be kind"))
    return connected
