"""Each real engine behind a gateway, and how a test sees what the engine is doing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from assistants import House, load_house
from tests.gateway.conftest import Running, gateway_before
from tests.gateway.test_engine_host import Host
from tests.ports import free_port

BASE = Path(__file__).parents[3] / "assistants" / "bases" / "hanlin-mini"
RECITER = Path(__file__).with_name("reciting_turbomind.py")
START_SECONDS = 150
DECLARATION = """
name: wishes
aliases: [tianji]
title: w
description: w
system: 你现在是一个送祝福大师
sampling: {temperature: 0, max_tokens: 16, repetition_penalty: 1.1}
limits: {max_tokens: 400}
model: {base: hanlin-mini}
"""


class Engine(Protocol):
    """What a test wants to know of a real engine."""

    kind: str
    url: str

    @property
    def made(self) -> int:
        """The tokens of the last request, as far as that was seen."""

    async def working(self) -> bool:
        """Whether it is busy with any request."""


@dataclass(frozen=True)
class Served:
    """A gateway whose assistant 'wishes' stands on a real engine."""

    gateway: Running
    engine: Engine

    async def until(self, *, working: bool, seconds: float = 20) -> None:
        """Wait until the engine is busy, or until it is not."""
        async with asyncio.timeout(seconds):
            while await self.engine.working() is not working:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


class Llamacpp:
    """The embedded engine, run by the real engine host."""

    kind = "llamacpp"

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._made = 0
        self._http = http

    @property
    def made(self) -> int:
        return self._made

    async def working(self) -> bool:
        slots = (await self._http.get(f"{self.url}/slots")).json()
        busy = [slot for slot in slots if slot["is_processing"]]
        for slot in busy:
            self._made = slot.get("next_token", [{}])[0].get("n_decoded", 0)
        return bool(busy)


class Lmdeploy:
    """The real api_server, which tells on its output what becomes of its requests."""

    kind = "turbomind"

    def __init__(self, url: str) -> None:
        self.url = url
        self.ended: list[tuple[str, int]] = []
        """How each request ended, and after how many tokens."""
        self._began = 0

    @property
    def made(self) -> int:
        return self.ended[-1][1]

    async def working(self) -> bool:
        return self._began > len(self.ended)

    async def read(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            if line.startswith(b"reciter: "):
                _, what, _, tokens = line.decode().split()
                if what == "began":
                    self._began += 1
                else:
                    self.ended.append((what, int(tokens)))


def declared(folder: Path) -> House:
    (folder / "assistants").mkdir()
    (folder / "assistants" / "wishes.yaml").write_text(DECLARATION, encoding="utf-8")
    return load_house(folder / "assistants")


@contextlib.asynccontextmanager
async def on_llamacpp(folder: Path) -> AsyncIterator[Served]:
    from convert.progress import Unwatched
    from convert.run import build

    house = declared(folder)
    work = folder / "work"
    build(house, engine="llamacpp", workspaces=work, force=False, progress=Unwatched())
    port = free_port()
    host = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hanlin", "engines", "--engine=llamacpp", f"--port={port}"),
        *(f"--assistants={house.folder}", f"--workspaces={work}"),
    )
    try:
        async with gateway_before(house, engines=f"http://127.0.0.1:{port}") as gateway:
            await answers(f"{gateway.url}/ready")
            async with httpx.AsyncClient() as http:
                found = (await http.get(f"http://127.0.0.1:{port}/replicas")).json()
                yield Served(gateway, Llamacpp(found["replicas"][0]["url"], http))
    finally:
        with contextlib.suppress(ProcessLookupError):
            host.send_signal(signal.SIGTERM)
        await host.wait()


@contextlib.asynccontextmanager
async def on_lmdeploy(folder: Path, python: Path) -> AsyncIterator[Served]:
    """The engine host's place is taken by a stand-in that names the server."""
    house = declared(folder)
    async with reciting(folder, python) as engine, Host().running() as host:
        await host.set(
            {"assistant": "wishes", "url": engine.url, "state": "ready", "restarts": 0, "log": [],
             "engine": engine.kind}
        )  # fmt: skip
        async with gateway_before(house, engines=f"http://127.0.0.1:{host.port}") as gateway:
            await answers(f"{gateway.url}/ready")
            yield Served(gateway, engine)


@contextlib.asynccontextmanager
async def reciting(folder: Path, python: Path) -> AsyncIterator[Lmdeploy]:
    engine = Lmdeploy(f"http://127.0.0.1:{(port := free_port())}")
    with (folder / "lmdeploy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            python, RECITER, BASE, "--server-name", "127.0.0.1", "--server-port", str(port),
            "--model-name", "wishes", "--session-len", "512",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
    assert process.stdout is not None
    reading = asyncio.create_task(engine.read(process.stdout))
    try:
        await answers(f"{engine.url}/health", process)
        yield engine
    except AssertionError as error:
        error.add_note((folder / "lmdeploy.log").read_text(errors="replace")[-3000:])
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


async def answers(url: str, process: asyncio.subprocess.Process | None = None) -> None:
    """Wait until what is there says 200."""
    async with asyncio.timeout(START_SECONDS), httpx.AsyncClient() as http:
        while True:
            assert process is None or process.returncode is None, "it ended before it was ready"
            with contextlib.suppress(httpx.TransportError):
                if (await http.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.1)
