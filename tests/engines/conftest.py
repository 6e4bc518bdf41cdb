"""A real workspace of the embedded base, and engine hosts of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistants.load import House, load_house
from assistants.schema import Assistant
from serve.engines.course import Policy
from serve.engines.engine import Engine
from serve.engines.host import Folders, Host
from serve.engines.llamacpp import Llamacpp
from serve.process import Command

QUICK = Policy(
    load=60,
    first_wait=0.05,
    longest_wait=0.2,
    look_again=0.1,
    probe_every=0.1,
    probe_timeout=0.3,
    poll_loading=0.05,
    drain=5,
    grace=5,
)


def declare(folder: Path, name: str = "wishes", more: str = "") -> House:
    """A house with one more assistant in it, on the embedded base alone."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"name: {name}\ntitle: t\ndescription: d\nmodel: {{base: hanlin-mini}}\n{more}"
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return load_house(folder)


@pytest.fixture(scope="session")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workspaces of an assistant `wishes`, really converted."""
    from convert.progress import Unwatched
    from convert.run import build

    root = tmp_path_factory.mktemp("house")
    house = declare(root / "assistants")
    build(house, engine="llamacpp", workspaces=root / "work", force=False, progress=Unwatched())
    return root / "work"


@dataclass(frozen=True)
class Script:
    """An engine that is a few lines of Python; it becomes ready as soon as it says so."""

    text: str
    name: str = "llamacpp"

    def command(self, assistant: Assistant, workspace: Path, port: int) -> Command:
        return Command((sys.executable, "-c", self.text, str(port)), {})

    async def first_token(self, client: httpx.AsyncClient, assistant: str) -> bool:
        return await Llamacpp().alive(client)

    async def alive(self, client: httpx.AsyncClient) -> bool:
        return await Llamacpp().alive(client)

    async def busy(self, client: httpx.AsyncClient) -> bool:
        return False


class Watched:
    """A host under test: what it reports, and what it becomes."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.seen: list[str] = []

    def one(self) -> dict[str, Any]:
        found: dict[str, Any] = self.host.report()["replicas"][0]
        return found

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Follow the board until the one replica is as wanted."""
        async with asyncio.timeout(60):
            while not wanted(now := self.one()):
                await self.host.board.other_than(self.host.board.version, 60)
            return now


HostOf = Callable[..., contextlib.AbstractAsyncContextManager[Watched]]


@pytest.fixture
def host_of(tmp_path: Path) -> HostOf:
    @contextlib.asynccontextmanager
    async def start(
        house: House, workspaces: Path, engine: Engine | None = None, **policy: float
    ) -> AsyncIterator[Watched]:
        folders = Folders(workspaces, tmp_path / "logs")
        host = Host(house, engine or Llamacpp(), folders, replace(QUICK, **policy))
        running = asyncio.create_task(host.run())
        try:
            yield Watched(host)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return start


def engine_pid(port: int) -> int:
    """The process that serves a port, which is not the guard that stands over it."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = status.read_bytes().split(b"\0")
            serves = (
                b"serve.engines.llamacpp_server" in words and f"--port={port}".encode() in words
            )
            if serves and not any(word.endswith(b"guard.py") for word in words):
                return int(status.parent.name)
    raise AssertionError(f"nothing serves port {port}")


def exists(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    return Path(f"/proc/{pid}").exists()
