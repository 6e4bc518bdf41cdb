"""More assistants than memory through every part: real engines, gateway, official client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from hanlin.client.running import Running, found
from serve.engines_key import bearer
from tests.hanlin.conftest import Hanlin
from tests.ports import free_port

NAMES = ("wishes", "poetry")


@dataclass(frozen=True)
class House:
    """What is up, with room for one engine of two."""

    talk: openai.AsyncOpenAI
    host: httpx.AsyncClient

    async def states(self) -> dict[str, str]:
        told = (await self.host.get("/replicas")).json()
        return {replica["assistant"]: replica["state"] for replica in told["replicas"]}


@pytest.fixture
async def small(
    hanlin: Hanlin, house: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    monkeypatch.setenv("HANLIN_MINIMUM_STAY", "1")
    port = free_port()
    run = await hanlin("up", "--no-ui", f"--port={port}", "--memory=300MiB", cwd=house)
    await run.until("Ctrl-C stops everything")
    up = found(house / "workspaces" / ".logs")
    assert isinstance(up, Running)
    async with (
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=120
        ) as talk,
        httpx.AsyncClient(
            base_url=up.engines, headers=bearer(up.engines_key), trust_env=False
        ) as host,
    ):
        yield House(talk, host)


async def whole(talk: openai.AsyncOpenAI, name: str) -> str:
    answer = await talk.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "祝姐姐生日快乐"}]
    )
    return str(answer.choices[0].finish_reason)


async def streamed(talk: openai.AsyncOpenAI, name: str) -> str:
    ended = ""
    async for chunk in await talk.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "祝姐姐生日快乐"}], stream=True
    ):
        ended = str(chunk.choices[0].finish_reason or ended) if chunk.choices else ended
    return ended


async def test_everybody_is_answered_though_only_one_fits(small: House) -> None:
    """Six clients of both at once, and an update in the middle: not one request fails."""

    async def client(number: int) -> list[str]:
        asks = (whole, streamed)
        return [
            await asks[(number + turn) % 2](small.talk, NAMES[(number + turn // 2) % 2])
            for turn in range(4)
        ]

    async with asyncio.timeout(120), asyncio.TaskGroup() as clients:
        tasks = [clients.create_task(client(number)) for number in range(6)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        serving = next(name for name, state in (await small.states()).items() if state != "stopped")
        assert (await small.host.post(f"/assistants/{serving}/update")).status_code == 202
    endings = [ending for task in tasks for ending in task.result()]
    assert len(endings) == 24
    assert set(endings) <= {"stop", "length"}


async def test_a_cold_one_nobody_waits_for_any_more_is_not_started(small: House) -> None:
    """The client leaves; its gateway says so, and what runs is left in peace."""
    states = await small.states()
    warm, cold = sorted(NAMES, key=lambda name: states[name] != "ready")
    story = await small.talk.completions.create(
        model=warm, prompt="春", max_tokens=900, stream=True, extra_body={"ignore_eos": True}
    )
    async with contextlib.aclosing(story.response.aiter_bytes()) as pieces:
        assert await anext(pieces)
        asked = asyncio.create_task(whole(small.talk, cold))
        async with asyncio.timeout(30):
            while (await small.states())[cold] != "starting":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            asked.cancel()
            while (await small.states())[cold] != "stopped":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await small.states())[warm] == "ready"
        await story.response.aclose()
