"""A gateway that is told to stop: not ready at once, running streams finish, or end with a word."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from serve.gateway.server import Server
from tests.engine_stub import EngineStub

PROGRAM = """
import sys
from pathlib import Path
from assistants import load_house
from serve.gateway.app import run
from serve.gateway.settings import GatewaySettings
port, grace, drain, workers = map(float, sys.argv[2:])
settings = GatewaySettings(
    port=int(port), drain_grace_seconds=grace, drain_seconds=int(drain), workers=int(workers)
)
run(settings, lambda: load_house(Path(sys.argv[1])))
"""
BODY = {"model": "wishes", "messages": [{"role": "user", "content": "x"}], "stream": True}


@pytest.fixture
def start(tmp_path: Path, stack: Any, unused_tcp_port: int) -> Any:
    async def process(
        engine: EngineStub, grace: float, drain: int, *, workers: int = 1
    ) -> tuple[Any, str]:
        (tmp_path / "wishes.yaml").write_text(
            "name: wishes\ntitle: w\ndescription: w\nmodel: {base: hanlin-mini}\n"
            f"upstreams: ['{engine.url}']\n"
        )
        url = f"http://127.0.0.1:{unused_tcp_port}"
        given = (str(tmp_path), str(unused_tcp_port), str(grace), str(drain), str(workers))
        started = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, *given)
        stack.callback(lambda: started.returncode is None and started.kill())
        async with asyncio.timeout(30), httpx.AsyncClient() as http:
            while True:
                try:
                    assert (await http.get(f"{url}/ready")).status_code == 200
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
                else:
                    return started, url

    return process


@pytest.mark.parametrize("workers", [1, 3])
async def test_streams_finish_and_readiness_goes_first(
    start: Any, engine_with: Any, workers: int
) -> None:
    engine = await engine_with(tokens=20, tokens_per_second=20)
    process, url = await start(engine, 0.5, 20, workers=workers)
    async with (
        httpx.AsyncClient(base_url=url, timeout=20) as http,
        http.stream("POST", "/v1/chat/completions", json=BODY) as stream,
    ):
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            while (ready := await http.get("/ready")).status_code == 200:
                pass
        text = "".join([piece async for piece in stream.aiter_text()])
    assert ready.json()["status"] == "draining"
    assert "word19" in text
    assert text.endswith("data: [DONE]\n\n")
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_streams_that_last_too_long_end_with_an_error_event(
    start: Any, engine_with: Any
) -> None:
    engine = await engine_with(tokens=100_000, tokens_per_second=20)
    process, url = await start(engine, 0, 1)
    async with (
        httpx.AsyncClient(base_url=url, timeout=20) as http,
        http.stream("POST", "/v1/chat/completions", json=BODY) as stream,
    ):
        process.send_signal(signal.SIGTERM)
        text = "".join([piece async for piece in stream.aiter_text()])
    assert '"code":"gateway_stopping"' in text
    assert text.endswith("data: [DONE]\n\n")
    assert await asyncio.wait_for(process.wait(), 10) == 0
    await engine.until(lambda e: e.open == 0 and e.aborted)


def children(pid: int) -> list[int]:
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        pytest.skip("this system does not tell a process's children")
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_worker_that_dies_is_replaced(start: Any, engine_with: Any) -> None:
    process, url = await start(await engine_with(), 0, 5, workers=2)
    first = children(process.pid)
    assert len(first) == 2
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: len(now := children(process.pid)) == 2 and not {*now} & {*first})
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        assert (await http.post("/v1/chat/completions", json=BODY)).status_code == 200
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 10) == 0
    assert not any(alive(pid) for pid in workers)


async def test_no_worker_outlives_its_parent(start: Any, engine_with: Any) -> None:
    process, _ = await start(await engine_with(), 0, 5, workers=2)
    workers = children(process.pid)
    process.kill()
    await process.wait()
    await until(lambda: not any(alive(pid) for pid in workers))


async def test_workers_read_changed_declarations(
    start: Any, engine_with: Any, tmp_path: Path
) -> None:
    process, url = await start(await engine_with(), 0, 5, workers=2)
    text = (tmp_path / "wishes.yaml").read_text()
    (tmp_path / "poetry.yaml").write_text(text.replace("wishes", "poetry"))
    process.send_signal(signal.SIGHUP)
    seen: list[int] = []
    async with asyncio.timeout(20):
        while seen[-8:] != [2] * 8:
            async with httpx.AsyncClient(base_url=url) as http:  # each may meet another worker
                seen.append(len((await http.get("/v1/models")).json()["data"]))
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.parametrize(("number", "closes"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
async def test_who_is_told_to_end_by_hand_does_not_wait_for_others_to_notice(
    number: signal.Signals, closes: bool
) -> None:
    drained: list[bool] = []
    config = uvicorn.Config(FastAPI(), log_config=None)
    server = Server(config, drain=lambda: drained.append(True), grace_seconds=3600)
    server.handle_exit(number, None)
    assert (await server.on_tick(1), drained) == (closes, [True])
