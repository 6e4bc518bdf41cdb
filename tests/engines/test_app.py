"""The engine host as a process: its HTTP API, its end, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.engines.backends.llamacpp import Llamacpp
from serve.ports import listen
from tests.engines.conftest import declare, engine_pid, exists, failed, ready, stopped
from tests.ports import free_port


@dataclass(frozen=True)
class HostProcess:
    """`hanlin engines`, running."""

    process: asyncio.subprocess.Process
    http: httpx.AsyncClient

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        version = 0
        async with asyncio.timeout(60):
            while True:
                query = {"after": str(version), "wait": "20"}
                with contextlib.suppress(httpx.TransportError):
                    told = (await self.http.get("/replicas", params=query)).json()
                    version = told["version"]
                    if wanted(told["replicas"][0]):
                        return dict(told["replicas"][0])


@pytest.fixture
async def hosted(workspaces: Path, tmp_path: Path) -> AsyncIterator[HostProcess]:
    declare(tmp_path / "assistants", more="start: on_demand\n")
    async with running(tmp_path, workspaces) as host:
        yield host


@contextlib.asynccontextmanager
async def running(tmp_path: Path, workspaces: Path) -> AsyncIterator[HostProcess]:
    port = free_port()
    process = await start(tmp_path, workspaces, port)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30
    ) as http:
        yield HostProcess(process, http)
    if process.returncode is None:
        process.terminate()
    await process.communicate()


async def start(folder: Path, workspaces: Path, port: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hanlin", "engines", f"--port={port}"),
        *(f"--assistants={folder / 'assistants'}", f"--workspaces={workspaces}"),
        env={**os.environ, "HANLIN_LOGS": str(folder / "logs")},
        stderr=asyncio.subprocess.PIPE,
    )


async def test_from_stopped_to_ready_and_to_a_clean_end(
    hosted: HostProcess, tmp_path: Path
) -> None:
    first = await hosted.until(stopped)
    assert time.time() - first.pop("since") < 60
    assert first == {
        "id": "wishes.1",
        "assistant": "wishes",
        "url": "",
        "state": "stopped",
        "restarts": 0,
        "reason": None,
        "log": [],
        "engine": "llamacpp",
        "devices": [],
        "memory": 0,
        "pinned": False,
        "workspace": None,
    }
    assert (await hosted.http.get("/health")).json() == {"status": "ok"}
    assert (await hosted.http.post("/assistants/wishes/start")).status_code == 202
    assert (await hosted.http.post("/assistants/wishes/start")).status_code == 202
    url = (await hosted.until(ready))["url"]
    pid = engine_pid(httpx.URL(url).port or 0)
    hosted.process.send_signal(signal.SIGTERM)
    _, told = await hosted.process.communicate()
    assert hosted.process.returncode == 0
    assert [line.partition(" INFO ")[2] for line in told.decode().splitlines()] == [
        "wishes.1 is starting",
        "wishes.1 is ready",
        "wishes.1 is finishing its last requests",
        "wishes.1 is stopped",
    ]
    assert not exists(pid)
    starts, ends = (tmp_path / "logs" / "engine-wishes.log").read_text().splitlines()
    assert " hanlin: starts " in starts
    assert ends.endswith(" hanlin: it ended as it was told to")


async def test_how_to_build_what_is_missing_is_said_with_the_folders(tmp_path: Path) -> None:
    """Else `hanlin convert` would look where this house is not."""
    declare(tmp_path / "assistants")
    async with running(tmp_path, tmp_path / "none") as host:
        reason = (await host.until(failed))["reason"]
    folders = f"--assistants {tmp_path / 'assistants'} --workspaces {tmp_path / 'none'}"
    assert reason.endswith(f"as soon as hanlin convert wishes {folders} has built one.")


async def test_a_long_poll_answers_when_something_changes_and_not_before(
    hosted: HostProcess,
) -> None:
    await hosted.until(stopped)
    version = (await hosted.http.get("/replicas")).json()["version"]
    waiting = asyncio.create_task(
        hosted.http.get("/replicas", params={"after": version, "wait": 3600})  # cut to a minute
    )
    same = await hosted.http.get("/replicas", params={"after": version, "wait": 0.2})
    assert same.json()["version"] == version
    # A follower that knows a later version knows it of another host: it is answered at once.
    other = await hosted.http.get("/replicas", params={"after": 999, "wait": 30}, timeout=20)
    assert other.status_code == 200
    assert not waiting.done()
    await hosted.http.post("/assistants/wishes/start")
    told = (await waiting).json()
    assert told["version"] > version
    assert told["replicas"][0]["state"] == "starting"


async def test_a_waiting_follower_does_not_hold_up_the_end(hosted: HostProcess) -> None:
    await hosted.until(stopped)
    version = (await hosted.http.get("/replicas")).json()["version"]
    waiting = asyncio.create_task(
        hosted.http.get("/replicas", params={"after": version, "wait": 60})
    )
    await hosted.http.get("/health")
    hosted.process.terminate()
    assert (await waiting).status_code == 200
    await asyncio.wait_for(hosted.process.communicate(), 20)
    assert hosted.process.returncode == 0


async def test_no_engine_outlives_a_host_that_was_killed(hosted: HostProcess) -> None:
    await hosted.until(stopped)
    await hosted.http.post("/assistants/wishes/start")
    url = (await hosted.until(ready))["url"]
    hosted.process.kill()
    await hosted.process.communicate()
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client, asyncio.timeout(20):
        # The process table cannot be awaited.
        while await Llamacpp().alive(client):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_told_to_stop_before_it_listens_it_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that wakes its GPUs takes its time to answer."""
    asked, driver = tmp_path / "asked", tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text(f"#!/bin/sh\ntouch {asked}\nexec sleep 20\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{driver.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HANLIN_ENGINE", "turbomind")
    declare(tmp_path / "assistants")
    process = await start(tmp_path, tmp_path, free_port())
    while not asked.exists():  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    process.terminate()
    _, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")


async def test_a_taken_port_is_one_sentence(workspaces: Path, tmp_path: Path) -> None:
    declare(tmp_path / "assistants")
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        process = await start(tmp_path, workspaces, port)
        _, told = await process.communicate()
    assert process.returncode == 1
    assert told.decode().startswith(f"Port {port} is taken by ")
    assert told.decode().endswith("choose another with --port.\n")
