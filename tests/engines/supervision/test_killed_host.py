"""Whatever an engine host was about when it was killed, nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest


@pytest.mark.parametrize(
    ("stage", "engines"),
    [("loading", 1), ("ready", 1), ("draining", 1), ("swapping", 1), ("updating", 2)],
)
async def test_nothing_is_left(stage: str, engines: int, root: Path, tmp_path: Path) -> None:
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.engines.supervision.host_to_kill", stage, tmp_path),
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert host.stdout
    try:
        assert await host.stdout.readline() == b"reached\n"
        children: list[psutil.Process] = []
        while len(children) < 2 * engines:  # each with its guard
            children = await asyncio.to_thread(psutil.Process(host.pid).children, recursive=True)
    finally:
        host.kill()
        await host.communicate()
    _, left = await asyncio.to_thread(psutil.wait_procs, children, timeout=30)
    assert not left
