"""The client that engines are asked with, and engines on sockets of their own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from serve.gateway.upstream.pool import Upstream
from tests.gateway.upstream.sockets import Engine, Script


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as opened:
        yield opened


@pytest.fixture
async def engine_that(stack: contextlib.AsyncExitStack) -> Any:
    async def start(script: Script, **where: Any) -> Engine:
        return await stack.enter_async_context(Engine(script).running(**where))

    return start
