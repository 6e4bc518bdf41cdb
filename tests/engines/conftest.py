"""A real workspace of the embedded base, and engine hosts of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistants.load import House, load_house
from assistants.schema import Assistant
from serve.engines.backends.engine import Engine, Launch
from serve.engines.backends.llamacpp import Llamacpp
from serve.engines.host import Host, Memory
from serve.engines.memory.gpus import Gpu, Seen
from serve.engines.memory.placement import Device, Need, Plan, Planner
from serve.engines.policy import Policy
from serve.engines.site import Site
from serve.process import Command

QUICK = Policy(
    load=60,
    first_wait=0.05,
    longest_wait=0.2,
    look_again=0.1,
    probe_every=0.1,
    probe_timeout=5,
    poll_loading=0.05,
    drain=5,
    grace=5,
    minimum_stay=0,
    hearing=0.3,
)
UNIT = 2**20


def declare(folder: Path, name: str = "wishes", more: str = "") -> House:
    """A house with one more assistant in it, on the embedded base alone."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"name: {name}\ntitle: t\ndescription: d\nmodel: {{base: hanlin-mini}}\n{more}"
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return load_house(folder)


def house_of(folder: Path, *names: str, more: str = "start: on_demand\n") -> House:
    """A house with these too, which start when they are asked for."""
    for name in names:
        declare(folder, name, more)
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
    serial: bool = False

    def command(self, assistant: Assistant, launch: Launch) -> Command:
        return Command((sys.executable, "-c", self.text, str(launch.port)), {})

    async def first_token(self, client: httpx.AsyncClient, assistant: str) -> bool:
        return await Llamacpp().alive(client)

    async def alive(self, client: httpx.AsyncClient) -> bool:
        return await Llamacpp().alive(client)

    async def progress(self, client: httpx.AsyncClient) -> None:
        return None

    async def busy(self, client: httpx.AsyncClient) -> int:
        return 0

    def fault(self, lines: Sequence[str]) -> str | None:
        return None


class Slow(Llamacpp):
    """The small engine of `slow_engine`, asked as llama.cpp is."""

    def __init__(self, *options: str, serial: bool = False, **by_assistant: str) -> None:
        self.serial = serial
        self._of_all = options
        self.options = by_assistant
        """More options of one assistant's."""

    def command(self, assistant: Assistant, launch: Launch) -> Command:
        more = self.options.get(assistant.name, "").split()
        program = Path(__file__).with_name("slow_engine.py")
        argv = (sys.executable, str(program), str(launch.port), *self._of_all, *more)
        return Command(argv, {})


def planned(*devices: int, needs: int = 1, kind: str = "memory") -> Planner:
    """Devices of so many units each, and for every assistant a need of the same."""

    def plan(house: House) -> Plan:
        names = [assistant.name for assistant in house]
        places = tuple(
            Device(index, "gpu" if kind == "gpu" else "memory", size * UNIT)
            for index, size in enumerate(devices)
        )
        return Plan(devices=places, needs={n: need(n, needs) for n in names}, homes={},
                    order=(), never={})  # fmt: skip

    return plan


def need(name: str, units: int = 1) -> Need:
    """What takes so many units of one device, whatever cache it is given."""
    return Need(
        assistant=name, devices=1, context=0, weights=units * UNIT, activations=0,
        least_cache=0, most_cache=0,
    )  # fmt: skip


def room_for(*devices: int, kind: str = "memory") -> Memory:
    """Devices of so many units each, and a driver that says they are there and free."""
    free = tuple(Gpu(n, f"GPU-{n}", size * UNIT, size * UNIT) for n, size in enumerate(devices))
    return Memory(planned(*devices, kind=kind), lambda: Seen(free))


class Watched:
    """A host under test: what it reports, and what it becomes."""

    def __init__(self, host: Host, running: asyncio.Task[None]) -> None:
        self.host = host
        self._running = running

    def all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.host.report()["replicas"]
        return found

    def one(self, name: str | None = None) -> dict[str, Any]:
        return next(r for r in self.all() if name in (None, r["assistant"]))

    async def until(
        self, wanted: Callable[[dict[str, Any]], bool], name: str | None = None
    ) -> dict[str, Any]:
        """Follow the version until the one replica is as wanted."""
        await self.until_all(lambda _: wanted(self.one(name)))
        return self.one(name)

    async def until_all(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Follow the version until all replicas together are as wanted."""
        try:
            async with asyncio.timeout(60):
                while not wanted(self.all()):
                    if self._running.done():  # what has ended it says more than that nothing comes
                        self._running.result()
                    await self.host.version.other_than(self.host.version.number, 60)
        except TimeoutError:
            raise AssertionError(f"not within 60 seconds; it is {self.all()}") from None


HostOf = Callable[..., contextlib.AbstractAsyncContextManager[Watched]]


@pytest.fixture
def host_of(tmp_path: Path) -> HostOf:
    @contextlib.asynccontextmanager
    async def start(
        house: House,
        workspaces: Path,
        engine: Engine | None = None,
        *,
        memory: Memory | None = None,
        site: dict[str, Any] | None = None,
        **policy: float,
    ) -> AsyncIterator[Watched]:
        where = Site(workspaces=workspaces, logs=tmp_path / "logs", **site or {})
        memory = memory or Memory(planned(100), Seen)
        host = Host(house, engine or Llamacpp(), where, replace(QUICK, **policy), memory)
        running = asyncio.create_task(host.run())
        try:
            yield Watched(host, running)
        finally:
            running.cancel()
            (end,) = await asyncio.gather(running, return_exceptions=True)
        if isinstance(end, Exception):
            raise end

    return start


def is_in(state: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a replica is in that state, as `until` asks."""
    return lambda replica: bool(replica["state"] == state)


ready, failed, stopped = map(is_in, ("ready", "failed", "stopped"))


def pid_at(url: str) -> int:
    """The engine's process at a URL."""
    return engine_pid(httpx.URL(url).port or 0)


def engine_pid(port: int) -> int:
    """The process that serves a port, which is not the guard that stands over it."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = status.read_bytes().split(b"\0")
            serves = (
                b"serve.engines.backends.llamacpp_server" in words
                and f"--port={port}".encode() in words
            )
            if serves and not any(word.endswith(b"guard.py") for word in words):
                return int(status.parent.name)
    raise AssertionError(f"nothing serves port {port}")


def exists(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    return Path(f"/proc/{pid}").exists()


def command_line(pid: int) -> bytes:
    """What everybody on the machine can read of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()
