"""`hanlin engines` with real engines and room for one: options, key, swap, and a sudden death."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.engines.conftest import house_of
from tests.ports import free_port

KEY = {"Authorization": "Bearer secret"}
QUIET = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO (first|second)\.[12] .+")
"""A line of a host whose engines do as they are told."""
STORY = {"prompt": "春", "max_tokens": 900, "ignore_eos": True, "stream": True}


class Whole:
    """The command, running, and a gateway's words with it."""

    def __init__(self, process: asyncio.subprocess.Process, http: httpx.AsyncClient) -> None:
        self.process = process
        self.http = http

    async def until(self, wanted: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, Any]:
        """Follow it until its replicas, by assistant, are as wanted."""
        version = 0
        async with asyncio.timeout(90):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    query = {"after": str(version), "wait": "20", "gateway": "test"}
                    told = (await self.http.get("/replicas", params=query)).json()
                    version = told["version"]
                    found = {replica["assistant"]: replica for replica in told["replicas"]}
                    if wanted(found):
                        return found


def is_in(name: str, state: str) -> Callable[[dict[str, dict[str, Any]]], bool]:
    return lambda found: bool(found[name]["state"] == state)


@pytest.fixture
def work(workspaces: Path, tmp_path: Path) -> Path:
    """Real workspaces of `first` and `second`."""
    for name in ("first", "second"):
        folder = tmp_path / "work" / name / "llamacpp"
        shutil.copytree(workspaces / "wishes" / "llamacpp", folder)
        built = json.loads((folder / "engine.json").read_text())
        (folder / "engine.json").write_text(json.dumps({**built, "assistant": name}))
    return tmp_path / "work"


@pytest.fixture
async def whole(work: Path, tmp_path: Path) -> AsyncIterator[Whole]:
    """Everything said by the environment, as a container says it."""
    folder = tmp_path / "assistants"
    house_of(folder, "first", "second", "elsewhere")
    (tmp_path / "key").write_text("secret\n")
    port = free_port()
    environ = {
        "HANLIN_LOGS": str(tmp_path / "logs"),
        "HANLIN_ASSISTANTS": str(folder),
        "HANLIN_WORKSPACES": str(work),
        "HANLIN_ENGINE": "llamacpp",
        "HANLIN_ENGINES_KEY_FILE": str(tmp_path / "key"),
        "HANLIN_HOST": "0.0.0.0",
        "HANLIN_ADVERTISE": "localhost",
        "HANLIN_MEMORY": "300MiB",
        "HANLIN_MINIMUM_STAY": "0",
        "HANLIN_UPSTREAMS_ELSEWHERE": "http://gpu1:23333",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hanlin", "engines", f"--port={port}"),
        env={**os.environ, **environ},
        stderr=asyncio.subprocess.PIPE,
    )
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, headers=KEY, trust_env=False, timeout=60) as http:
        yield Whole(process, http)
    if process.returncode is None:
        process.terminate()
    await process.communicate()


async def test_two_real_engines_take_turns_in_room_for_one(whole: Whole) -> None:
    """A stream that runs when the other is asked for is finished first."""
    found = await whole.until(lambda found: True)
    assert set(found) == {"first", "second"}  # the third is served elsewhere
    await whole.http.post("/assistants/first/start")
    url = (await whole.until(is_in("first", "ready")))["first"]["url"]
    assert url.startswith("http://localhost:")
    async with whole.http.stream("POST", f"{url}/v1/completions", json=STORY) as answer:
        lines = answer.aiter_lines()
        assert await anext(lines)
        await whole.http.post("/assistants/second/start")
        waiting = (await whole.until(lambda found: bool(found["second"]["reason"])))["second"]
        assert waiting["reason"].startswith("waits for room")
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest
    after = await whole.until(is_in("second", "ready"))
    assert after["first"]["state"] == "stopped"
    assert after["first"]["reason"] == "'first' made room for 'second'."
    assert after["second"]["memory"] > 20 << 20
    whole.process.terminate()
    _, told = await whole.process.communicate()
    assert whole.process.returncode == 0
    lines = told.decode().splitlines()
    assert all(QUIET.fullmatch(line) for line in lines), lines
    assert any(line.endswith("second.2 is ready") for line in lines), lines


async def test_nothing_is_orphaned_when_the_host_is_killed_in_the_middle_of_it_all(
    whole: Whole,
) -> None:
    await whole.until(lambda found: True)
    await whole.http.post("/assistants/first/start")
    url = (await whole.until(is_in("first", "ready")))["first"]["url"]
    async with whole.http.stream("POST", f"{url}/v1/completions", json=STORY) as answer:
        assert await anext(answer.aiter_lines())
        await whole.http.post("/assistants/second/start")
        children = psutil.Process(whole.process.pid).children(recursive=True)
        assert len(children) >= 2  # a guard, and the engine it stands over
        whole.process.kill()
        await whole.process.communicate()
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=30)
    assert not alive
