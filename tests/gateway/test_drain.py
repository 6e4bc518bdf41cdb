"""A gateway that is told to stop: not ready at once, running streams finish, or end with a word."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine_stub import EngineStub

PROGRAM = """
import sys
from pathlib import Path
from assistants import load_house
from serve.gateway.app import run
from serve.gateway.settings import GatewaySettings
port, grace, drain = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
settings = GatewaySettings(port=port, drain_grace_seconds=grace, drain_seconds=drain)
run(settings, load_house(Path(sys.argv[1])))
"""
BODY = {"model": "wishes", "messages": [{"role": "user", "content": "x"}], "stream": True}


@pytest.fixture
def start(tmp_path: Path, stack: Any, unused_tcp_port: int) -> Any:
    async def process(engine: EngineStub, grace: float, drain: int) -> tuple[Any, str]:
        (tmp_path / "wishes.yaml").write_text(
            "name: wishes\ntitle: w\ndescription: w\nmodel: {base: hanlin-mini}\n"
            f"upstreams: ['{engine.url}']\n"
        )
        url = f"http://127.0.0.1:{unused_tcp_port}"
        given = (str(tmp_path), str(unused_tcp_port), str(grace), str(drain))
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


async def test_streams_finish_and_readiness_goes_first(start: Any, engine_with: Any) -> None:
    engine = await engine_with(tokens=20, tokens_per_second=20)
    process, url = await start(engine, 0.5, 20)
    async with (
        httpx.AsyncClient(base_url=url, timeout=20) as http,
        http.stream("POST", "/v1/chat/completions", json=BODY) as stream,
    ):
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
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
