"""`hanlin up`: from declarations to answers, and everything stopped at the end.

The page takes seconds to import, so it is started first and waits for the gateway by itself.
Every part is a process in a session of its own: Ctrl-C reaches this process only, and a part ends
with this process however that ends (see `serve.process`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from rich.console import Console

from assistants.errors import HanlinError
from assistants.load import House, load_house
from convert.fit.gpus import read_size
from hanlin import places
from hanlin.access import exposed, key_sources, require_key_of_page
from hanlin.build import BuildSettings, bars, build
from hanlin.children import Family
from hanlin.client.running import Running, left
from hanlin.polling import Standing, answering, client, passed_on, refusals, settled, snapshots
from hanlin.screen import Status, Where, declared, heard_of_keys, summary, trouble
from serve.addresses import LOOPBACK, reached, url
from serve.elsewhere import with_upstreams
from serve.engines.backends.registry import choose
from serve.engines_key import FILE_VARIABLE, VARIABLE, engines_key
from serve.gateway.admission.keys import OPEN
from serve.ports import free_port, require_free

T = TypeVar("T")

ORDER = ("page", "gateway", "engines")
"""The order of stopping: nobody loses what they still need."""
CLEAN_UP_SECONDS = 5.0
"""What a build that is given up leaves after that, the next build removes."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class UpSettings:
    """The options of `hanlin up`; no `ui_port`, no page."""

    engine: str
    assistants: Path
    workspaces: Path
    host: str
    port: int
    ui_port: int | None
    keys: Path | None = None
    memory: str | None = None


def up(settings: UpSettings) -> None:
    """Bring everything up and keep it up until Ctrl-C, SIGTERM or SIGHUP.

    Raises:
        HanlinError: something cannot be built or started, or a part ended by itself.
    """
    began = time.monotonic()
    house = with_upstreams(load_house(settings.assistants), os.environ)
    engine = choose(settings.engine).name
    require_free(settings.host, settings.port, option="--port")
    if settings.ui_port:
        if settings.ui_port == settings.port:
            raise HanlinError(
                f"Gateway and page cannot both listen on port {settings.port}; choose another with "
                "--ui-port."
            )
        require_free(settings.host, settings.ui_port, option="--ui-port")
    if settings.memory is not None:
        read_size(settings.memory, option="--memory")  # the engine host would say so after a build
    sources = key_sources(settings.keys)
    if settings.ui_port:
        require_key_of_page(sources, house)
    brought_up = _Up(settings, house, engine, began)
    with left(brought_up.told, places.logs(settings.workspaces)):
        asyncio.run(brought_up.run())


class _Up:
    def __init__(self, settings: UpSettings, house: House, engine: str, began: float) -> None:
        self._settings = settings
        self._house = house
        self._engine = engine
        self._began = began
        self._logs = places.logs(settings.workspaces)
        self._screen = Console(soft_wrap=True, highlight=False)
        self._engines_port = free_port()
        self._engines_key = engines_key(os.environ) or secrets.token_urlsafe(32)
        self._endpoint = url(reached(settings.host), settings.port)
        self._page = url(reached(settings.host), settings.ui_port) if settings.ui_port else None

    @property
    def told(self) -> Running:
        """What other commands find this house by."""
        return Running(
            pid=os.getpid(),
            gateway=self._endpoint,
            engines=self._engines_url,
            page=self._page,
            engines_key=self._engines_key,
        )

    async def run(self) -> None:
        family = Family(self._logs, ORDER, {VARIABLE: self._engines_key, FILE_VARIABLE: ""})
        work = asyncio.create_task(self._work(family))
        ending = asyncio.create_task(family.first_ending())
        told = _on_signals(work, family)
        try:
            await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
            for task in (ending, work):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            for task in (ending, work):
                task.cancel()
            await asyncio.gather(ending, work, return_exceptions=True)
            await family.stop()
            if told.is_set():
                with contextlib.suppress(OSError):  # after SIGHUP there is no screen left
                    ctrl_c = "\n" if self._screen.is_terminal else ""  # it stands there as ^C
                    self._screen.print(f"{ctrl_c}Everything is stopped.")

    async def _work(self, family: Family) -> None:
        if self._page:
            await family.start("page", *self._page_arguments())
        await self._build()
        await family.start("engines", *self._engines_arguments())
        await family.start("gateway", *self._gateway_arguments())
        now = await self._until_ready()
        if not self._can_serve(now):
            raise HanlinError(trouble(next(s for s in now if s.state == "failed")))
        self._welcome(now)
        await self._follow(now)

    async def _build(self) -> None:
        settings = BuildSettings(self._engine, self._settings.assistants, self._settings.workspaces)
        with bars(self._screen) as watched:
            await _in_thread(lambda: build(settings, watched), give_up=watched.give_up)

    async def _until_ready(self) -> tuple[Standing, ...]:
        """Wait for every part and every engine, and show how far they are."""
        async with client() as http, asyncio.TaskGroup() as group:
            with Status(self._screen) as shown:
                engines = group.create_task(self._engines_settled(shown))
                parts = {"gateway": f"{self._endpoint}/health", "page": self._page}
                waiting = [
                    group.create_task(_part(shown, http, name, url))
                    for name, url in parts.items()
                    if url
                ]
                await asyncio.gather(engines, *waiting)
                await passed_on(http, self._endpoint, engines.result())
        return engines.result()

    async def _engines_settled(self, shown: Status) -> tuple[Standing, ...]:
        async with client(self._engines_key) as http:
            async for now in snapshots(http, self._engines_url):
                shown.tell_all(now.standings)
                if settled(now.standings):
                    return now.standings
        return ()

    def _can_serve(self, now: tuple[Standing, ...]) -> bool:
        elsewhere = any(assistant.upstreams for assistant in self._house)
        return elsewhere or any(standing.state != "failed" for standing in now)

    def _welcome(self, now: tuple[Standing, ...]) -> None:
        for standing in now:
            if standing.state == "failed":
                self._screen.print(trouble(standing), style="red", markup=False)
        sources = key_sources(self._settings.keys)
        text = summary(
            self._house,
            now,
            Where(self._endpoint, self._page, self._logs, keyed=sources != OPEN),
            seconds=time.monotonic() - self._began,
        )
        self._screen.print(text)
        if warning := exposed(self._settings.host, sources):
            self._screen.print(warning, style="yellow", markup=False)

    async def _follow(self, before: tuple[Standing, ...]) -> None:
        """Say what becomes of engines, declarations and keys from here on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_engines(before))
            if self._settings.keys:  # what else the gateway reads, the engine host reads too
                group.create_task(self._follow_keys())

    async def _follow_engines(self, before: tuple[Standing, ...]) -> None:
        known = {standing.assistant: standing.state for standing in before}
        problem = None
        async with client(self._engines_key) as http:
            async for now in snapshots(http, self._engines_url):
                if now.problem != problem:
                    problem = now.problem
                    self._screen.print(declared(problem))
                for standing in now.standings:
                    if standing.state == known.get(standing.assistant):
                        continue
                    known[standing.assistant] = standing.state
                    self._screen.print(standing.told, markup=False)

    async def _follow_keys(self) -> None:
        async with client() as http:
            async for problem in refusals(http, self._endpoint):
                self._screen.print(heard_of_keys(problem))

    @property
    def _engines_url(self) -> str:
        return url(LOOPBACK, self._engines_port)

    @property
    def _folders(self) -> tuple[str, str]:
        return (
            f"--assistants={self._settings.assistants}",
            f"--workspaces={self._settings.workspaces}",
        )

    def _page_arguments(self) -> tuple[str, ...]:
        listens = (f"--host={self._settings.host}", f"--port={self._settings.ui_port}")
        return ("ui", f"--gateway={self._endpoint}", *listens)

    def _engines_arguments(self) -> tuple[str, ...]:
        listens = (f"--host={LOOPBACK}", f"--port={self._engines_port}")
        memory = (f"--memory={self._settings.memory}",) if self._settings.memory else ()
        return ("engines", f"--engine={self._engine}", *self._folders, *listens, *memory)

    def _gateway_arguments(self) -> tuple[str, ...]:
        listens = (f"--host={self._settings.host}", f"--port={self._settings.port}")
        keys = (f"--keys={self._settings.keys}",) if self._settings.keys else ()
        return ("gateway", f"--engines={self._engines_url}", self._folders[0], *listens, *keys)


def _on_signals(work: asyncio.Task[None], family: Family) -> asyncio.Event:
    """The first signal ends the work, the second kills; the event says that there was one."""
    told = asyncio.Event()

    def end() -> None:
        if told.is_set():
            family.kill()
        told.set()
        work.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, end)
    return told


async def _part(shown: Status, http: httpx.AsyncClient, name: str, url: str) -> None:
    shown.tell(name, "starting")
    await answering(http, url)
    shown.tell(name, "ready")


async def _in_thread(work: Callable[[], T], *, give_up: Callable[[], None]) -> T:
    """Run blocking work; when cancelled, have it give up and wait until it has cleaned up."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed over to whoever awaits
            loop.call_soon_threadsafe(settle, None, error)
        else:
            loop.call_soon_threadsafe(settle, result, None)

    threading.Thread(target=run, name="build", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        give_up()
        with contextlib.suppress(KeyboardInterrupt, TimeoutError):
            await asyncio.wait_for(done, CLEAN_UP_SECONDS)
        raise
