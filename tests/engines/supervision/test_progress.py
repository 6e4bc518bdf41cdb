"""What hangs while it is in use: its HTTP lives, its requests stand still."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.engines.backends.llamacpp import SILENT, Llamacpp
from serve.engines.gateways import Told
from serve.engines.supervision.progress import Progress
from tests.engines.conftest import HostOf, Slow, Watched, declare, exists, pid_at, ready

SEIZE, INTERRUPT, ANY_THREAD = 0x4206, 0x4207, 0x40000000
"""Of <sys/ptrace.h> and <sys/wait.h>."""


def test_what_moves_does_not_stand() -> None:
    progress = Progress().seen("a", 0)
    assert not progress.seen("a", 100).stands(100, 120)
    assert progress.seen("a", 121).stands(121, 120)
    assert not progress.seen("b", 121).stands(240, 120)
    assert progress.seen("b", 121).stands(242, 120)


def test_what_has_nothing_to_do_may_stand() -> None:
    idle = Progress().seen(None, 0)
    assert not idle.seen(None, 1000).stands(1000, 120)
    assert not idle.seen("a", 1000).stands(1000, 120)


async def test_one_that_is_used_and_does_not_get_on_is_replaced(
    host_of: HostOf, tmp_path: Path
) -> None:
    hangs = Slow("--hang-after=1")
    async with host_of(declare(tmp_path / "a"), tmp_path, hangs, standstill=0.005) as watched:
        first = await watched.until(ready)
        watched.host.hear(Told(gateway="g", knows=1, in_flight={first["id"]: 1}))
        told = await cut(watched, first["url"])
        assert told == (
            "The engine of 'wishes' hung (it had requests, and got on with none for 0.3 seconds)."
        )
        assert (await watched.until(ready))["restarts"] == 1


async def cut(watched: Watched, url: str) -> str:
    """Ask for an answer that never comes; returns why its engine was ended."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        asked = asyncio.ensure_future(client.post("/v1/completions", json={"prompt": "1"}))
        between = await watched.until(lambda r: not ready(r))
        with pytest.raises(httpx.HTTPError):
            await asked
    reason: str = between["reason"]
    return reason


async def test_a_real_engine_whose_computing_thread_stands_is_replaced(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    house = declare(tmp_path / "a")
    async with (
        host_of(house, workspaces, standstill=0.05, probe_timeout=1) as watched,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        first = await watched.until(ready)
        pid = pid_at(first["url"])
        body = {"prompt": "春", "max_tokens": 900, "ignore_eos": True, "stream": True}
        async with client.stream("POST", f"{first['url']}/v1/completions", json=body) as answer:
            await anext(coming := answer.aiter_bytes())
            await stop_computing(pid)
            told = (await watched.until(lambda r: not ready(r)))["reason"]
            with pytest.raises(httpx.HTTPError):
                [_ async for _ in coming]
        # Not that it did not answer: its HTTP lives.
        assert "hung (it had requests, and got on with none for 3 seconds)" in told
        await watched.until(ready)
        assert not exists(pid)


async def stop_computing(pid: int) -> None:
    """Have the thread stand still that computes, until its process is killed."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def hold() -> None:
        """Whoever stops a thread so must stay, and must be the one to see its end."""
        thread = computing(pid)
        ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        failed = ptrace(SEIZE, thread, None, None) or ptrace(INTERRUPT, thread, None, None)
        if failed:
            loop.call_soon_threadsafe(stopped.set_result, ctypes.get_errno())
            return
        os.waitpid(thread, ANY_THREAD)
        loop.call_soon_threadsafe(stopped.set_result, 0)
        os.waitpid(thread, ANY_THREAD)

    threading.Thread(target=hold, daemon=True).start()
    if error := await stopped:
        pytest.skip(f"this machine lets nobody stop a thread: {os.strerror(error)}")


def computing(pid: int) -> int:
    """The thread that uses processor time from now on."""
    before = ticks(pid)
    while True:
        used = {thread: count - before.get(thread, 0) for thread, count in ticks(pid).items()}
        most = max(used, key=lambda thread: used[thread])
        if used[most] >= 3:
            return most


def ticks(pid: int) -> dict[int, int]:
    """Processor time of each thread."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        user, system = (task / "stat").read_text().rpartition(")")[2].split()[11:13]
        found[int(task.name)] = int(user) + int(system)
    return found


async def test_how_far_it_is_changes_with_every_token(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    engine = Llamacpp()
    async with host_of(declare(tmp_path / "a"), workspaces) as watched:
        url = (await watched.until(ready))["url"]
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
            assert await engine.progress(client) is None
            body = {"prompt": "春", "max_tokens": 900, "ignore_eos": True, "stream": True}
            async with asyncio.timeout(60):  # a whole stream may pass between two questions
                while not await moves(engine, client, body):
                    pass


async def moves(engine: Llamacpp, client: httpx.AsyncClient, body: dict[str, Any]) -> bool:
    """Whether it was seen at two different places of one answer."""
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        await anext(coming := answer.aiter_bytes())
        before = await engine.progress(client)
        await anext(coming)
        after = await engine.progress(client)
    return not {before, after} & {None, SILENT} and before != after
