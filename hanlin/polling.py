"""How `up` follows the parts it started: it polls them over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from serve.engines_key import bearer
from serve.state import State

WAIT_SECONDS = 25.0
PAUSE_SECONDS = 0.1
PASSED_ON_SECONDS = 5.0
LOOK_SECONDS = 2.0
SETTLED = frozenset({"ready", "failed", "stopped"})
"""States in which nothing more is to be waited for."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the engine of one assistant stands."""

    assistant: str
    state: str
    reason: str | None
    log: tuple[str, ...]

    @property
    def told(self) -> str:
        """In one sentence."""
        return self.reason or f"The engine of '{self.assistant}' {State(self.state).told}."


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the engine host tells."""

    standings: tuple[Standing, ...]
    problem: str | None
    """What is wrong with the declarations as they are now."""


def client(key: str | None = None) -> httpx.AsyncClient:
    """For plain HTTP on this machine: no proxy, no certificates to load."""
    return httpx.AsyncClient(
        headers=bearer(key), trust_env=False, verify=False, timeout=WAIT_SECONDS + 10
    )


async def answering(http: httpx.AsyncClient, url: str) -> None:
    """Return when there is an answer at `url` at all."""
    while True:
        try:
            await http.get(url)
        except httpx.TransportError:
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return


async def passed_on(
    http: httpx.AsyncClient, endpoint: str, standings: tuple[Standing, ...]
) -> None:
    """Return when the gateway has heard of these standings, so that what is shown is true."""
    wanted = {standing.assistant: standing.state for standing in standings}
    with contextlib.suppress(TimeoutError):  # they may change meanwhile, and are then told anew
        async with asyncio.timeout(PASSED_ON_SECONDS):
            while wanted.items() - (await _heard(http, endpoint)).items():  # noqa: ASYNC110
                await asyncio.sleep(PAUSE_SECONDS)


async def _heard(http: httpx.AsyncClient, endpoint: str) -> dict[str, str]:
    try:
        heard: dict[str, str] = (await http.get(f"{endpoint}/ready")).json()["assistants"]
    except (httpx.TransportError, ValueError, KeyError):
        return {}
    return heard


async def refusals(http: httpx.AsyncClient, endpoint: str) -> AsyncIterator[str | None]:
    """Whenever it changes, what the gateway says of declarations and keys that it does not take
    over, for ever."""
    before = None
    while True:
        with contextlib.suppress(httpx.TransportError, ValueError):
            said = (await http.get(f"{endpoint}/ready")).json().get("problem")
            if said != before:
                before = said
                yield said
        await asyncio.sleep(LOOK_SECONDS)


async def snapshots(http: httpx.AsyncClient, host: str) -> AsyncIterator[Snapshot]:
    """Every change at the engine host, for ever."""
    version = 0
    while True:
        query = {"after": str(version), "wait": str(WAIT_SECONDS)}
        try:
            told = (await http.get(f"{host}/replicas", params=query)).json()
        except (httpx.TransportError, ValueError):
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        if told["version"] != version:
            version = told["version"]
            replicas = (_standing(replica) for replica in told["replicas"])
            yield Snapshot(one_each(replicas), told.get("problem"))


def _standing(replica: dict[str, Any]) -> Standing:
    log = tuple(str(line) for line in replica.get("log") or ())
    return Standing(replica["assistant"], replica["state"], replica.get("reason"), log)


def one_each(standings: Iterable[Standing]) -> tuple[Standing, ...]:
    """Of two engines of one assistant, which there are during an update, the one that serves."""
    found: dict[str, Standing] = {}
    for standing in standings:
        before = found.get(standing.assistant)
        if before is None or before.state != "ready":
            found[standing.assistant] = standing
    return tuple(found.values())


def settled(standings: tuple[Standing, ...]) -> bool:
    """Whether every engine is ready, has failed, or waits to be asked for."""
    return all(standing.state in SETTLED for standing in standings)
