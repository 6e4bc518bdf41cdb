"""The contract is held before each real engine: llama.cpp always, LMDeploy where it is named."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.gateway.contract.served import Served, on_llamacpp, on_lmdeploy

LMDEPLOY = os.environ.get("HANLIN_LMDEPLOY_PYTHON")
ENGINES = [
    pytest.param("llamacpp", marks=pytest.mark.chain),
    pytest.param("lmdeploy", marks=pytest.mark.lmdeploy),
]


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=ENGINES)
async def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("house")
    if request.param == "llamacpp":
        async with on_llamacpp(folder) as served:
            yield served
        return
    if not LMDEPLOY:
        pytest.skip("needs the real LMDeploy; name its python with HANLIN_LMDEPLOY_PYTHON")
    async with on_lmdeploy(folder, Path(LMDEPLOY)) as served:
        yield served


@pytest_asyncio.fixture(loop_scope="session")
async def client(served: Served) -> AsyncIterator[AsyncOpenAI]:
    url = f"{served.gateway.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def claude(served: Served) -> AsyncIterator[Any]:
    url = served.gateway.url
    async with anthropic.AsyncAnthropic(
        base_url=url, api_key="any", max_retries=0, timeout=60
    ) as client:
        yield client
