"""GPUs that others hold, and a driver that for once does not answer."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest

from serve.engines.host import Memory
from serve.engines.memory.gpus import Gpu, Seen
from tests.engines.conftest import UNIT, HostOf, Slow, declare, planned


async def test_a_gpu_that_another_program_holds_is_said_and_taken_when_it_is_free(
    host_of: HostOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hanlin.engines")
    free = [UNIT // 2]

    def look() -> Seen:
        return Seen((Gpu(0, "GPU-0", 2 * UNIT, free[0]),))

    memory = Memory(planned(2, kind="gpu"), look)
    async with host_of(declare(tmp_path / "a"), tmp_path, Slow(), memory=memory) as watched:
        told = await watched.until(lambda one: bool(one["reason"]))
        assert told["reason"].startswith(
            "'wishes' needs 1 MiB on GPU 0 and 0 MiB is free there: what holds"
        )
        free[0] = 2 * UNIT
        await watched.until(lambda one: bool(one["state"] == "ready"))
    assert "wishes.1 takes GPU 0, its cache 0.0001 of what is free" in caplog.messages


async def test_a_driver_that_does_not_answer_ends_no_engine(
    host_of: HostOf, tmp_path: Path
) -> None:
    good = Seen((Gpu(0, "GPU-0", 2 * UNIT, 2 * UNIT),))
    silent = Seen(trouble="nvidia-smi did not answer within 30 seconds", answered=False)
    looks: asyncio.Queue[None] = asyncio.Queue()
    now = [good]

    def look() -> Seen:
        loop.call_soon_threadsafe(looks.put_nowait, None)
        return now[0]

    loop = asyncio.get_running_loop()
    memory = Memory(planned(2, kind="gpu"), look)
    async with host_of(
        declare(tmp_path / "a"), tmp_path, Slow(), memory=memory, look_at_gpus=0.05, probe_every=600
    ) as watched:
        before = await watched.until(lambda one: bool(one["state"] == "ready"))
        now[0] = silent
        while not looks.empty():
            looks.get_nowait()
        for _ in range(4):
            await asyncio.wait_for(looks.get(), 30)
        assert watched.one() == before
        os.kill(int(before["log"][0].rpartition(" ")[2]), signal.SIGKILL)
        told = await watched.until(lambda one: bool(one["reason"]))
        assert told["reason"].startswith("The engine of 'wishes' was killed (SIGKILL)")
        now[0] = good
        await watched.until(lambda one: bool(one["state"] == "ready"))
        now[0] = Seen(trouble="No devices were found")
        await watched.until(lambda one: bool(one["state"] != "ready"))
