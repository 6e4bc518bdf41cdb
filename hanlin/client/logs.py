"""`hanlin logs`: what an engine, the gateway, the page or the engine host wrote.

An engine's log is asked of the engine host, which may be on another machine or in another
container; where that does not help, and for the other parts, it is read in the folder of logs.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec

from assistants.errors import HanlinError, nearest
from assistants.load import PARTS
from hanlin.client.interrupt import unless_interrupted
from hanlin.client.overview import Hosted
from hanlin.client.reader import until_nobody_reads
from hanlin.client.target import Target, away, client, strange
from serve.log_reader import Reader, Source
from serve.process import Log

ENGINE = "engine-"
PAUSE_SECONDS = 0.2
HOST = "engine host"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which log, how many of its last lines, and whether also those to come."""

    name: str
    lines: int
    follow: bool


class HostSaysNothingError(HanlinError):
    """The engine host is away, or has no logs to show."""


def show(wanted: Wanted, folder: Path, asked: Target) -> None:
    """Write the last lines of a log, and those to come until Ctrl-C if they are wanted.

    Raises:
        HanlinError: there is no log of that name, or it cannot be had.
    """
    with until_nobody_reads():
        asyncio.run(_show(wanted, folder, asked))


async def _show(wanted: Wanted, folder: Path, asked: Target) -> None:
    pieces = _part(wanted, folder) if wanted.name in PARTS else _engine(wanted, folder, asked)
    await unless_interrupted(_write(pieces))


async def _write(pieces: AsyncIterator[bytes]) -> None:
    """Bytes as they are; a stream of our own, for Python's writes less than all if unbuffered."""
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:  # noqa: ASYNC230 - to wait is right
        async for piece in pieces:
            out.write(piece)
            out.flush()


async def _part(wanted: Wanted, folder: Path) -> AsyncIterator[bytes]:
    file = folder / f"{wanted.name}.log"
    if not file.is_file():
        raise HanlinError(
            f"There is no {file}: hanlin up leaves it there; a part that runs alone or in a "
            "container writes to its own output (docker compose logs)."
        )
    async for piece in _of_files([Source(wanted.name, Log(file))], wanted):
        yield piece


async def _engine(wanted: Wanted, folder: Path, asked: Target) -> AsyncIterator[bytes]:
    try:
        async for piece in _of_host(wanted, asked):
            yield piece
    except HostSaysNothingError as error:
        here = _left_in(folder)
        if not here:
            raise HanlinError(f"{error} Nor has an engine left a log in {folder}.") from error
        if wanted.name not in here:
            raise HanlinError(f"{error} {no_such(wanted.name, here)}") from error
        async for piece in _of_files(here[wanted.name], wanted):
            yield piece


def _left_in(folder: Path) -> dict[str, list[Source]]:
    """The logs of engines in a folder, by assistant; during an update one has two engines."""
    found: dict[str, list[Source]] = {}
    for file in sorted(folder.glob(f"{ENGINE}*.log")):
        name, _, _ = file.stem.removeprefix(ENGINE).partition("+")
        found.setdefault(name, []).append(Source(file.name, Log(file)))
    return found


async def _of_host(wanted: Wanted, asked: Target) -> AsyncIterator[bytes]:
    """What the host shows, as it comes.

    Raises:
        HanlinError: it has no engine of that name.
        HostSaysNothingError: it is away, or shows no logs.
    """
    url = asked.engines
    if url is None:
        raise HostSaysNothingError("No engine host is known.")
    query = {"lines": str(wanted.lines)} | ({"follow": "1"} if wanted.follow else {})
    path, began = f"/assistants/{quote(wanted.name, safe='')}/log", False
    async with client(url, asked.engines_key) as http:
        patience = httpx.Timeout(http.timeout.connect, read=None) if wanted.follow else http.timeout
        try:
            async with http.stream("GET", path, params=query, timeout=patience) as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    await _require(wanted.name, http, url)
                if answer.status_code != httpx.codes.OK:
                    raise HostSaysNothingError(strange(HOST, url, answer))
                began = True
                async for piece in answer.aiter_bytes():
                    yield piece
        except httpx.HTTPError as error:
            if began:
                raise HanlinError(f"The engine host at {url} has gone.") from error
            raise HostSaysNothingError(away(HOST, url, error)) from error


async def _require(name: str, http: httpx.AsyncClient, url: str) -> None:
    """Return if the host has such an engine, though it shows no log of it."""
    answer = await http.get("/replicas")
    try:
        hosted = msgspec.json.decode(answer.content, type=Hosted)
    except msgspec.DecodeError as error:
        raise HostSaysNothingError(strange(HOST, url, answer)) from error
    names = dict.fromkeys(replica.assistant for replica in hosted.replicas)
    if name not in names:
        raise no_such(name, names)


def no_such(name: str, engines: Iterable[str]) -> HanlinError:
    """The error about a name that nothing has."""
    known = [*engines, *PARTS]
    like = nearest(name, known)
    hint = f" Did you mean '{like}'?" if like else ""
    return HanlinError(f"There is no log of '{name}'.{hint} There are those of {', '.join(known)}.")


async def _of_files(files: Sequence[Source], wanted: Wanted) -> AsyncIterator[bytes]:
    logs = Reader(lambda: files)
    yield logs.last(wanted.lines)
    while wanted.follow:
        await asyncio.sleep(PAUSE_SECONDS)
        if more := logs.more():
            yield more
