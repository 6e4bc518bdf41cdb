"""TurboMind under the engine host, before the gateway: all real but for the class that needs a GPU.

The GPU is one that a program named nvidia-smi tells of, so what is planned, and which share of it
the engine is given, is decided by the code that decides it on a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from assistants.load import House
from serve.engines.backends.lmdeploy import Lmdeploy
from serve.engines.backends.turbomind import Turbomind
from serve.engines_key import bearer
from tests.engines.backends.on_lmdeploy import real_python, reciting_python
from tests.engines.conftest import HostOf, declare
from tests.gateway.conftest import gateway_before
from tests.ports import free_port

pytestmark = [pytest.mark.lmdeploy, pytest.mark.timeout(400)]

KEY = "open-sesame"
MORE = "turbomind: {session_len: 512, max_batch_size: 2}\nlimits: {max_tokens: 2000}\n"
MIB = 2**20
HANGS = 501
"""See `reciting_turbomind`: who asks with this seed is given three tokens and no more."""
PATIENT: dict[str, float] = {"load": 150, "probe_timeout": 5, "poll_loading": 0.2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assistant and its workspace, really built."""
    from convert.progress import Unwatched
    from convert.run import build

    root = tmp_path_factory.mktemp("house")
    declared = declare(root / "assistants", more=MORE)
    work = root / "work"
    build(declared, engine="turbomind", workspaces=work, force=False, progress=Unwatched())
    return root


@pytest.fixture
def house(folder: Path) -> House:
    return declare(folder / "assistants", more=MORE)


def with_a_gpu(folder: Path, *, free: int) -> str:
    """A path on which a driver tells of one GPU of 24 GiB."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '0, GPU-1, 24576, {free}'\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@contextlib.asynccontextmanager
async def hanlin_engines(folder: Path, tmp_path: Path, port: int) -> AsyncIterator[Any]:
    environ = {
        **os.environ,
        "PATH": with_a_gpu(tmp_path, free=20000),
        "HANLIN_LMDEPLOY_PYTHON": str(reciting_python(tmp_path)),
        "HANLIN_ENGINES_KEY": KEY,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hanlin", "engines", f"--port={port}",
        f"--assistants={folder / 'assistants'}", f"--workspaces={folder / 'work'}", env=environ,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def replica(http: httpx.AsyncClient, state: str) -> dict[str, Any]:
    """The one of the host, once it is in this state."""
    version = 0
    async with asyncio.timeout(150):
        while True:
            with contextlib.suppress(httpx.TransportError):
                told = (await http.get(f"/replicas?after={version}&wait=20")).json()
                version, found = told["version"], told["replicas"][0]
                if found["state"] == state:
                    return dict(found)
                assert found["state"] != "failed", found


async def test_from_the_command_to_the_client_and_back(
    folder: Path, house: House, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        hanlin_engines(folder, tmp_path, port) as host,
        httpx.AsyncClient(base_url=url, headers=bearer(KEY), trust_env=False, timeout=60) as http,
        gateway_before(house, engines=url, engines_key=KEY) as gateway,
        AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client,
    ):
        found = await replica(http, "ready")
        assert (found["engine"], found["devices"], found["restarts"]) == ("turbomind", [0], 0)
        assert_started_as_planned(httpx.URL(found["url"]).port or 0)
        messages: Any = [{"role": "user", "content": "1"}]
        answer = await client.chat.completions.create(model="wishes", messages=messages)
        assert answer.choices[0].finish_reason == "stop"
        stream = await client.chat.completions.create(
            model="wishes", messages=messages, stream=True, max_tokens=400,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        first = await anext(stream)
        host.send_signal(signal.SIGTERM)
        rest = [chunk async for chunk in stream]
        assert first.choices
        assert rest[-1].choices[0].finish_reason == "length"
        assert await host.wait() == 0
    assert not environments(httpx.URL(found["url"]).port or 0)


def assert_started_as_planned(port: int) -> None:
    (words, environ) = environments(port)[0]
    share = next(word for word in words if word.startswith("--cache-max-entry-count="))
    assert 0 < float(share.partition("=")[2]) < 0.8  # computed, not what is declared
    assert "CUDA_VISIBLE_DEVICES=0" in environ
    assert f"HANLIN_ENGINES_KEY={KEY}" in environ
    assert not any(KEY in word for word in words)


def environments(port: int) -> list[tuple[list[str], list[str]]]:
    """Arguments and environment of what serves a port, but for the guard that stands over it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_text().split("\0")
            if f"--server-port={port}" in words and not any("guard.py" in word for word in words):
                found.append((words, (folder / "environ").read_text().split("\0")))
    return found


async def test_a_fall_back_is_a_failure_that_says_so(
    folder: Path, house: House, host_of: HostOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no stand-in here, and no CUDA library: LMDeploy truly falls back."""
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    engine = Turbomind(Lmdeploy(real_python(), "0.18.0"))
    slowly: dict[str, float] = {**PATIENT, "first_wait": 600, "longest_wait": 600}
    async with host_of(house, folder / "work", engine, **slowly) as watched:
        now = await watched.until(lambda r: r["reason"] is not None)
    assert now["state"] == "failed"
    assert now["reason"].startswith(
        "'wishes' is not served: LMDeploy fell back to its PyTorch engine, because its TurboMind"
    )


async def test_hung_inference_is_replaced(
    folder: Path,
    house: House,
    host_of: HostOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HTTP lives, nothing is computed; LMDeploy would never end that by itself."""
    for name, value in {"POLL_INTERVAL": 0.3, "PROBE_TIMEOUT": 0.2, "UNHEALTHY_AFTER": 2}.items():
        monkeypatch.setenv(f"LMDEPLOY_HEALTH_{name}", str(value))
    engine = Turbomind(Lmdeploy(reciting_python(tmp_path), "0.18.0"))
    async with host_of(house, folder / "work", engine, **PATIENT) as watched:
        first = await watched.until(lambda r: r["state"] == "ready")
        body = {"model": "wishes", "messages": [{"role": "user", "content": "1"}], "seed": HANGS}
        async with httpx.AsyncClient(base_url=first["url"], trust_env=False, timeout=60) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/v1/chat/completions", json=body)
        between = await watched.until(lambda r: r["reason"] is not None)
        assert "hung (no answer to 3 health checks in a row)" in between["reason"]
        again = await watched.until(lambda r: r["state"] == "ready")
        assert again["restarts"] == 1
