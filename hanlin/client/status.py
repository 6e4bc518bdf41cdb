"""`hanlin status`: asks the gateway and the engine host how they stand, once or again and again."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Mapping

import httpx
import msgspec
from rich.console import Console
from rich.live import Live

from assistants.errors import HanlinError
from hanlin.client.interrupt import unless_interrupted
from hanlin.client.overview import Hosted, Overview, Part, overview
from hanlin.client.reader import until_nobody_reads
from hanlin.client.table import table
from hanlin.client.target import Target, away, client, strange
from serve.pace import Readings, began_anew
from serve.reading import read

RATE_SECONDS = 1.0
"""How far apart the two readings are between which tokens are counted."""
EACH_SECONDS = 2.0
WATCHED_SECONDS = 60.0

NOT_KNOWN = "The engine host of this gateway is not known here; name it with --engines."


class _Ready(msgspec.Struct):
    status: str
    assistants: dict[str, str]
    problem: str | None = None


def status(asked: Target, *, as_json: bool, watch: bool) -> None:
    """Show how the house stands, once or until Ctrl-C.

    Raises:
        HanlinError: nothing of it answers.
    """
    with until_nobody_reads():
        asyncio.run(_watch(asked, as_json=as_json) if watch else _once(asked, as_json=as_json))


async def _once(asked: Target, *, as_json: bool) -> None:
    async with _asking(asked) as asking:
        await asking.count()
        if asking.readings.last is not None:
            await asyncio.sleep(RATE_SECONDS)
        now = _of_something(await asking.look(), asked)
    _print(now, Console(highlight=False), as_json=as_json)


async def _watch(asked: Target, *, as_json: bool) -> None:
    async with _asking(asked) as asking:
        now = _of_something(await asking.look(), asked)
        await unless_interrupted(_go_on(asking, now, as_json=as_json))


async def _go_on(asking: Asking, now: Overview, *, as_json: bool) -> None:
    console = Console(highlight=False)
    with contextlib.ExitStack() as screen:
        live = None
        if console.is_terminal and not as_json:
            live = screen.enter_context(Live(console=console, auto_refresh=False))
        while True:
            if live:
                live.update(table(now, console.width), refresh=True)
            else:
                _print(now, console, as_json=as_json)
            await asyncio.sleep(EACH_SECONDS)
            now = await asking.look()


def _print(now: Overview, console: Console, *, as_json: bool) -> None:
    """JSON is one document to a line, however wide a terminal is."""
    if as_json:
        sys.stdout.write(f"{msgspec.json.encode(now).decode()}\n")
        sys.stdout.flush()
    else:
        console.print(table(now, console.width))


def _of_something(seen: Overview, asked: Target) -> Overview:
    if seen.gateway.state or seen.engines.state:
        return seen
    if asked.engines is None:
        raise HanlinError(f"{seen.gateway.problem} {seen.engines.problem}")
    if asked.up is not None:
        raise HanlinError(
            f"hanlin up (process {asked.up}) is on its way, but neither its gateway nor its engine "
            "host answers yet."
        )
    raise HanlinError(
        f"Nothing is up: no gateway answers at {asked.gateway} and no engine host at "
        f"{asked.engines}; start them with hanlin up, or name them with --gateway and --engines."
    )


class Asking:
    """The questions to one house, and what is remembered from one time to the next."""

    def __init__(
        self, asked: Target, gateway: httpx.AsyncClient, engines: httpx.AsyncClient
    ) -> None:
        self._asked = asked
        self._gateway = gateway
        self._engines = engines
        self.readings = Readings(WATCHED_SECONDS)

    async def look(self) -> Overview:
        (gateway, states), engines, uncounted = await asyncio.gather(
            self._ask_gateway(), self._ask_engines(), self.count()
        )
        if gateway.state:
            gateway = msgspec.structs.replace(gateway, problem=uncounted)
        return overview(time.time(), self.readings, gateway=(gateway, states), engines=engines)

    async def count(self) -> str | None:
        """Read the gateway's numbers; what is to be said where that cannot be done."""
        url = self._asked.gateway
        try:
            answer = await self._gateway.get("/metrics", headers={"accept": "text/plain"})
            answer.raise_for_status()
            now = read(answer.text, time.monotonic())
        except (httpx.HTTPError, ValueError):
            return f"The gateway at {url} answers, but GET {url}/metrics tells no numbers."
        if self.readings.last is not None and began_anew(self.readings.last, now):
            # The processes of one gateway hear of each other once a second: so soon after another,
            # a reading may also fall because a different one was asked. That is no rate at all.
            self.readings.forget()
        self.readings.take(now)
        return None

    async def _ask_gateway(self) -> tuple[Part, Mapping[str, str]]:
        url, part = self._asked.gateway, "gateway"
        try:
            answer = await self._gateway.get("/ready")
            told = msgspec.json.decode(answer.content, type=_Ready)
        except httpx.HTTPError as error:
            return Part(url=url, problem=away(part, url, error)), {}
        except msgspec.DecodeError:
            return Part(url=url, problem=strange(part, url, answer)), {}
        return Part(url=url, state=told.status, declarations=told.problem), told.assistants

    async def _ask_engines(self) -> tuple[Part, Hosted | None]:
        url, part = self._asked.engines, "engine host"
        if url is None:
            return Part(url=None, problem=NOT_KNOWN), None
        try:
            answer = await self._engines.get("/replicas")
            hosted = msgspec.json.decode(answer.content, type=Hosted)
        except httpx.HTTPError as error:
            return Part(url=url, problem=away(part, url, error)), None
        except msgspec.DecodeError:
            return Part(url=url, problem=strange(part, url, answer)), None
        return Part(url=url, state="ready", declarations=hosted.problem), hosted


@contextlib.asynccontextmanager
async def _asking(asked: Target) -> AsyncIterator[Asking]:
    gateway = client(asked.gateway, asked.gateway_key)
    engines = client(asked.engines or "", asked.engines_key)
    async with gateway, engines:
        yield Asking(asked, gateway, engines)
