"""Replicas that fail: when they are left alone, how they come back, how often is tried again."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from typing import Any

import httpx
import pytest

from serve.gateway.upstream import budget
from serve.gateway.upstream.affinity import affinity
from serve.gateway.upstream.breaker import OPENS_AFTER, Breaker
from serve.gateway.upstream.budget import Budget
from serve.gateway.upstream.pool import Upstream
from serve.gateway.upstream.replicas import Replica
from serve.gateway.upstream.router import choose
from tests.engine_stub import LMDEPLOY_ERROR, EngineStub, Plan
from tests.gateway.conftest import Running, declare, gateway_before, house_of, session_with
from tests.ports import free_port

BODY = b'{"model":"wishes","messages":[{"role":"user","content":"x"}]}'
STREAM = BODY[:-1] + b',"stream":true}'


def test_a_failure_is_a_short_rest() -> None:
    breaker = Breaker()
    breaker.failed(10)
    assert (breaker.rests(11.9), breaker.rests(12), breaker.open) == (True, False, False)
    breaker.asked()
    assert not breaker.rests(12)  # it is not open: others may follow at once


def test_failures_in_a_row_open_it_and_the_rests_grow() -> None:
    breaker, now = Breaker(), 100.0
    rests = []
    for _ in range(9):
        breaker.failed(now)
        began = now
        while breaker.rests(now):
            now += 0.5
        rests.append(now - began)
    assert rests == [2, 2, 2, 4, 8, 16, 30, 30, 30]


def test_what_was_asked_before_it_opened_does_not_make_it_worse() -> None:
    breaker = Breaker()
    for _ in range(50):
        breaker.failed(100)
    assert breaker.failures == OPENS_AFTER
    assert not breaker.rests(102)


def test_one_request_alone_finds_out_whether_an_open_one_is_well() -> None:
    breaker = Breaker()
    for _ in range(OPENS_AFTER):
        breaker.failed(100)
    breaker.asked()
    assert breaker.rests(102)
    breaker.unknown()  # its client left
    assert not breaker.rests(102)
    breaker.asked()
    breaker.failed(102)
    assert breaker.rests(105.9)
    breaker.asked()
    breaker.answered(106)
    assert (breaker.rests(106), breaker.failures) == (False, 0)


def test_an_engine_may_ask_to_be_left_alone_but_not_for_ever() -> None:
    breaker = Breaker()
    breaker.answered(100, rest_seconds=5)
    assert (breaker.rests(104), breaker.rests(105), breaker.failures) == (True, False, 0)
    breaker.failed(100, rest_seconds=86400)
    assert (breaker.rests(159), breaker.rests(160)) == (True, False)


def test_retries_cost_more_than_requests_bring() -> None:
    budget = Budget(64, now=0)
    assert [budget.spend(0) for _ in range(65)] == [True] * 64 + [False]
    for _ in range(11):
        budget.earn()
    assert [budget.spend(0) for _ in range(3)] == [True, True, False]
    assert [budget.spend(0.5) for _ in range(6)] == [True] * 5 + [False]
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend(0.5) for _ in range(200)) in (64, 65)


def test_a_session_stays_and_only_its_own_replica_s_end_moves_it() -> None:
    replicas = [Replica(f"http://10.0.0.{n}") for n in range(5)]

    def places(among: list[Replica]) -> list[str]:
        lots = [affinity(f"session-{n}", b"") for n in range(1000)]
        return [choose(among, avoid=(), now=0, affinity=lot).url for lot in lots]  # type: ignore[union-attr]

    before = places(replicas)
    assert all(150 < count < 250 for count in Counter(before).values())
    after = places(replicas[:-1])
    gone = replicas[-1].url
    assert all(a == b for a, b in zip(before, after, strict=True) if a != gone)


def test_affinity_only_breaks_ties() -> None:
    lot = affinity("s", b"")
    replicas = [Replica("http://a"), Replica("http://b")]
    mine = choose(replicas, avoid=(), now=0, affinity=lot)
    assert mine is not None
    mine.in_flight = 1
    assert choose(replicas, avoid=(), now=0, affinity=lot) is not mine


def test_what_belongs_together() -> None:
    system = b'{"role":"system","content":"s"}'
    first, reply = b'{"role":"user","content":"1"}', b'{"role":"assistant","content":"2"}'
    other = b'{"role":"user","content":"3"}'

    def chat(*turns: bytes, more: bytes = b"") -> bytes:
        return affinity(None, b'{"model":"m","messages":[' + b",".join(turns) + b"]" + more + b"}")

    begun = chat(system, first)
    assert begun == chat(system, first, reply, other)
    assert begun != chat(system, other)
    assert chat(first, more=b',"user":"u"') == chat(other, more=b',"user":"u"')
    assert chat(first, more=b',"user":null') == chat(first)
    assert chat(first, more=b',"user":"u","prompt_cache_key":"k"') != chat(
        first, more=b',"user":"u"'
    )
    assert affinity("x", chat(first)) == affinity("x", b"")
    for broken in (b"", b"[1]", b'{"messages":[1]}', b'{"messages":{}}', b'{"messages":[]}', b"{}"):
        assert isinstance(affinity(None, broken), bytes)
    assert affinity(None, b'{"prompt":"a b"}') != affinity(None, b'{"prompt":"a c"}')
    long = [affinity(None, b'{"prompt":"%b"}' % (b"a" * n + b"b" * 99)) for n in (150, 300, 350)]
    assert long[0] != long[1] == long[2]
    beyond = [b'{"role":"user","content":"%s"}' % (b"a" * 1024 + tail) for tail in (b"b", b"c")]
    assert chat(beyond[0]) == chat(beyond[1]) != chat(first)


async def ask(gateway: Running, *, body: bytes = BODY, session: str = "") -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        return await http.post(
            "/v1/chat/completions", content=body, headers={"x-session-id": session}
        )


def replicas_of(gateway: Running) -> Any:
    completion: Any = gateway.app.hot["/v1/chat/completions"]
    return completion._way.deliverer._replicas.of("wishes")


@pytest.mark.parametrize(
    ("plan", "opens"),
    [
        ({"status": 400, "body": LMDEPLOY_ERROR}, False),
        ({"status": 422, "body": b"{}"}, False),
        ({"status": 429, "body": b"{}"}, False),
        ({"status": 401, "body": b"{}"}, False),
        ({"status": 500, "body": b"x"}, True),
        ({"status": 503, "body": b"{}"}, True),
        ({"die": "head"}, True),
        ({"hang": "head"}, True),
    ],
)
async def test_what_opens_a_breaker(
    engine_with: Any, gateway_for: Any, plan: Any, opens: bool
) -> None:
    gateway = await gateway_for(await engine_with(**plan), timeouts={"total": 0.2})
    for _ in range(OPENS_AFTER):
        assert (await ask(gateway)).status_code >= 400
    assert replicas_of(gateway)[0].breaker.open is opens
    assert replicas_of(gateway)[0].in_flight == 0


async def test_the_last_replica_is_asked_however_often_it_failed(
    engine_with: Any, gateway_for: Any
) -> None:
    engine = await engine_with(status=500, body=b"x")
    gateway = await gateway_for(engine)
    for _ in range(6):
        assert (await ask(gateway)).status_code == 502
    assert len(engine.requests) == 6
    engine.plan = Plan()
    assert (await ask(gateway)).status_code == 200
    assert not replicas_of(gateway)[0].breaker.open


async def test_an_engine_s_wish_to_be_left_alone_is_kept_and_passed_on(
    engine: EngineStub, engine_with: Any, gateway_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = await engine_with(status=429, body=b"{}")
    monkeypatch.setattr("serve.gateway.upstream.reply.Reply.retry_after", 17)
    alone = await ask(await gateway_for(busy))
    assert (alone.status_code, alone.headers["retry-after"]) == (429, "17")
    gateway = await gateway_for(busy, engine)
    session = session_with(busy, engine)
    assert (await ask(gateway, session=session)).status_code == 200
    breaker = replicas_of(gateway)[0].breaker
    now = asyncio.get_running_loop().time()
    assert (breaker.rests(now + 16), breaker.rests(now + 18)) == (True, False)
    busy.plan = Plan(status=400, body=b"{}")  # to whom waiting is no help
    assert "retry-after" not in (await ask(await gateway_for(busy))).headers


async def test_a_dying_house_is_not_hit_by_a_storm(engine_with: Any, gateway_for: Any) -> None:
    engines = [await engine_with(status=500, body=b"x") for _ in range(3)]
    gateway = await gateway_for(*engines, limits={"concurrency": 1})
    began = time.monotonic()
    replies = [await ask(gateway) for _ in range(60)]
    assert {reply.status_code for reply in replies} == {502}
    asked = sum(len(engine.requests) for engine in engines)
    # Not 180: a reserve of 10, 12 earned, and what the time brought.
    brought = budget.PER_SECOND * (time.monotonic() - began)
    assert 60 + 60 * 0.2 < asked <= 60 + budget.LEAST_RESERVE + 60 * budget.PART + brought + 1


async def started(stack: Any, port: int) -> asyncio.subprocess.Process:
    given = ("--port", str(port), "--tokens-per-second", "40")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.engine_stub", *given
    )

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()

    stack.push_async_callback(end)
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return process


async def test_a_replica_killed_under_load_costs_nothing_that_had_not_begun(stack: Any) -> None:
    ports = [free_port(), free_port()]
    processes = [await started(stack, port) for port in ports]
    house = house_of(declare(upstreams=[f"http://127.0.0.1:{port}" for port in ports]))
    gateway = await stack.enter_async_context(gateway_before(house))
    client = await stack.enter_async_context(Upstream())
    ended = asyncio.Event()
    seen: Counter[str] = Counter()

    async def visitor(number: int) -> None:
        while not ended.is_set():
            until = asyncio.get_running_loop().time() + 20
            stream = bool(number % 2)
            reply = await client.ask(
                f"{gateway.url}/v1/chat/completions",
                STREAM if stream else BODY,
                {"content-type": "application/json", "x-session-id": str(number)},
                connect_seconds=5,
                until=until,
            )
            body = await reply.body()
            seen[f"{reply.status} {'begun' if stream and b'word0' in body else ''}"] += 1
            if reply.status != 200 or (stream and b"word0" not in body):
                seen["failed before it began"] += 1
            if stream and b"word4" not in body:
                seen["broken off"] += 1
                assert b"engine_dropped" in body

    def all_busy() -> bool:
        return seen.total() >= 200 and all(r.in_flight >= 20 for r in replicas_of(gateway))

    async with asyncio.TaskGroup() as visitors:
        for number in range(64):
            visitors.create_task(visitor(number))
        async with asyncio.timeout(20):
            while not all_busy():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        processes[0].send_signal(signal.SIGKILL)
        await processes[0].wait()
        answered = seen.total()
        async with asyncio.timeout(20):
            while seen.total() < answered + 192:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        ended.set()
    assert seen["failed before it began"] == 0, seen
    assert seen["broken off"] <= 40, seen
    assert replicas_of(gateway)[0].breaker.open
    assert all(replica.in_flight == 0 for replica in replicas_of(gateway))
