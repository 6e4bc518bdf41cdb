"""What Prometheus is told, read with its own parser."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import httpx
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parsed_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parsed

from serve.gateway.admission.keys import KeySources
from serve.gateway.record.tally import Standing
from serve.gateway.upstream.breaker import OPENS_AFTER
from tests.engine_stub import EngineStub, Plan
from tests.gateway.conftest import Running

USER = [{"role": "user", "content": "hello"}]

Told = dict[tuple[str, ...], float]


async def told(gateway: Running) -> Told:
    """(name, label values in the order of the labels' names) → value."""
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        page = await http.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=")
    return samples(page.text)


def samples(text: str) -> Told:
    found = [sample for family in parsed(text) for sample in family.samples]
    return {(s.name, *(s.labels[label] for label in sorted(s.labels))): s.value for s in found}


async def ask(gateway: Running, *, key: str = "", **body: Any) -> int:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as http:
        asked = {"model": "wishes", "messages": USER, **body}
        return (await http.post("/v1/chat/completions", json=asked)).status_code


async def test_requests_and_tokens_are_counted(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    await ask(gateway)
    await ask(gateway, stream=True)
    await ask(gateway, max_tokens=-1)
    now = await told(gateway)
    assert now["hanlin_requests_total", "wishes", "2xx", "chat"] == 2
    assert now["hanlin_request_seconds_count", "wishes", "chat"] == 2
    assert now["hanlin_tokens_total", "wishes", "out", "chat"] == 10
    assert now["hanlin_tokens_total", "wishes", "in", "chat"] >= 3
    assert now["hanlin_time_to_first_token_seconds_count", "wishes", "chat"] == 1
    assert now["hanlin_time_per_output_token_seconds_count", "wishes", "chat"] == 1


async def test_a_stream_is_counted_while_it_runs(gateway_for: Any, engine_with: Any) -> None:
    """Three tokens, then silence: they are under way until the client leaves, then counted."""
    engine = await engine_with(tokens=9, hang="middle", die_after=3)
    gateway = await gateway_for(engine)
    body = {"model": "wishes", "messages": USER, "stream": True}
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            events = answer.aiter_lines()
            while "word2" not in await anext(events):
                pass
            now = await told(gateway)
            assert now["hanlin_tokens_under_way", "wishes"] == 3
            assert now["hanlin_tokens_total", "wishes", "out", "chat"] == 0
            assert now["hanlin_time_to_first_token_seconds_count", "wishes", "chat"] == 1
        await engine.until(lambda e: e.aborted)
        while (now := await told(gateway))["hanlin_tokens_under_way", "wishes"]:
            pass
    assert now["hanlin_tokens_total", "wishes", "out", "chat"] == 3
    assert now["hanlin_time_to_first_token_seconds_count", "wishes", "chat"] == 1


async def test_the_gateways_own_part_is_told_apart(gateway_for: Any, engine_with: Any) -> None:
    """An engine that takes 0.2 s: that is its time, not ours."""
    slow = await engine_with(tokens=10, tokens_per_second=50)
    gateway = await gateway_for(slow)
    await ask(gateway)
    now = await told(gateway)
    assert now["hanlin_request_seconds_sum", "wishes", "chat"] >= 0.2
    assert now["hanlin_overhead_seconds_sum", "wishes", "chat"] < 0.1


async def test_what_clients_make_up_is_no_label(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    for model in ("nobody-1", "nobody-2"):
        await ask(gateway, model=model)
    now = await told(gateway)
    assert now["hanlin_requests_total", "unknown", "4xx", "chat"] == 2
    assert not [labels for labels in now if any("nobody" in label for label in labels)]


async def test_who_was_sent_away_and_why(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(
        engine,
        settings={"keys": KeySources(plain=("hl-a",))},
        limits={"concurrency": 1, "queue": 0},
    )
    engine.plan = Plan(hang="head")
    hanging = asyncio.create_task(ask(gateway, key="hl-a"))
    await engine.until(lambda seen: seen.open)
    assert await ask(gateway, key="hl-a") == 429
    assert await ask(gateway, key="hl-b") == 401
    now = await told(gateway)
    assert now["hanlin_rejections_total", "wishes", "queue", "chat"] == 1
    assert now["hanlin_rejections_total", "unknown", "key", "chat"] == 1
    assert now["hanlin_in_flight", "wishes"] == 1
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    await engine.until(lambda seen: not seen.open)
    now = await told(gateway)
    assert now["hanlin_requests_total", "wishes", "left", "chat"] == 1
    assert now["hanlin_in_flight", "wishes"] == 0


async def test_how_replicas_stand(engine_with: Any, gateway_for: Any) -> None:
    engine = await engine_with(die="head", times=1)
    gateway = await gateway_for(engine)
    assert await ask(gateway) == 200
    now = await told(gateway)
    assert now["hanlin_retries_total", "wishes", "chat"] == 1
    assert now["hanlin_engine_state", "wishes", "ready"] == 1
    assert now["hanlin_breaker_open", "wishes", "0"] == 0
    engine.plan = Plan(status=500, body=b"no")
    for _ in range(OPENS_AFTER):
        assert await ask(gateway) == 502
    now = await told(gateway)
    assert now["hanlin_breaker_open", "wishes", "0"] == 1


async def test_a_stream_that_failed_after_its_head_is_no_success(
    engine_with: Any, gateway_for: Any
) -> None:
    gateway = await gateway_for(await engine_with(die="close", tokens_per_second=50))
    assert await ask(gateway, stream=True) == 200
    now = await told(gateway)
    assert now["hanlin_requests_total", "wishes", "5xx", "chat"] == 1


async def test_openmetrics_for_who_asks_for_it(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    await ask(gateway)
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        page = await http.get("/metrics", headers=accept)
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert "hanlin_requests" in [family.name for family in parsed_openmetrics(page.text)]


ONE_PROCESS = """
import asyncio, pathlib, sys
from tests.gateway.conftest import declare, gateway_before, house_of
from tests.gateway.test_metrics import ask
async def main():
    house = house_of(declare(upstreams=[sys.argv[1]]))
    async with gateway_before(
        house, access_log=False, metrics_folder=pathlib.Path(sys.argv[2])
    ) as gateway:
        await ask(gateway)
        print(gateway.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def test_what_processes_do_at_this_moment_adds_up() -> None:
    mine, its = (Standing(n, n + 1, {"ready": 1}, [n == 3], n + 2) for n in (1, 3))
    mine.add(its)
    assert mine == Standing(4, 6, {"ready": 1}, [True], 8)


async def test_several_processes_tell_one_sum(
    engine: EngineStub, tmp_path: Any, stack: Any
) -> None:
    urls = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ONE_PROCESS, engine.url, str(tmp_path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        stack.push_async_callback(process.wait)
        stack.callback(process.stdin.close)
        async with asyncio.timeout(60):
            urls.append((await process.stdout.readline()).decode().strip())
    for url in urls:
        now = await summed(url)
        assert now["hanlin_in_flight", "wishes"] == 0
        assert now["hanlin_engine_state", "wishes", "ready"] == 1
        assert now["hanlin_request_seconds_count", "wishes", "chat"] == 2


async def summed(url: str, requests: int = 2) -> Told:
    """What one process tells once it knows of the other's request, as it does within a second."""
    async with asyncio.timeout(30), httpx.AsyncClient(base_url=url) as http:
        while True:
            now = samples((await http.get("/metrics")).text)
            if now.get(("hanlin_requests_total", "wishes", "2xx", "chat")) == requests:
                return now
            await asyncio.sleep(0.05)


WISHES = """
name: wishes
title: wishes
description: wishes
model: {{base: hanlin-mini}}
upstreams: ["{url}"]
"""
REQUESTS = 12


async def test_workers_tell_one_sum(
    engine: EngineStub, tmp_path: Any, stack: Any, unused_tcp_port: int
) -> None:
    (tmp_path / "wishes.yaml").write_text(WISHES.format(url=engine.url))
    url = f"http://127.0.0.1:{unused_tcp_port}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hanlin", "gateway", "--workers=2"),
        *(f"--assistants={tmp_path}", f"--port={unused_tcp_port}"),
        stderr=subprocess.DEVNULL,
    )
    stack.push_async_callback(process.wait)
    stack.callback(process.terminate)
    async with asyncio.timeout(60):
        while not await answers(url):  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(0.05)
    body = {"model": "wishes", "messages": USER}
    for _ in range(REQUESTS):  # each over a connection of its own, so to any of the two
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
    assert (await summed(url, REQUESTS))["hanlin_tokens_total", "wishes", "out", "chat"] == 60


async def answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(base_url=url) as http:
            return (await http.get("/ready")).status_code == 200
    except httpx.TransportError:
        return False
