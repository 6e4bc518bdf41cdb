"""Memory that is granted and given back, and who is sent home unserved; no processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistants.load import House
from serve.engines.gateways import Gateways, Told
from serve.engines.memory.allocator import Allocator, ParkedError
from serve.engines.policy import Policy
from serve.engines.version import Version
from tests.engines.conftest import house_of, planned
from tests.engines.supervision.test_cancelled import Loads, turned


@dataclass(frozen=True)
class Room:
    """An allocator at work, with room for one."""

    house: House
    allocator: Allocator
    gateways: Gateways
    version: Version

    def one(self, name: str, *, demanded: bool = False) -> Loads:
        return Loads(name, self.house.get(name), demanded=demanded)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    house, gateways, version = house_of(tmp_path, "first", "second"), Gateways(), Version()
    allocator = Allocator(
        planned(1)(house), serial=False, policy=Policy(), gateways=gateways, version=version
    )
    running = asyncio.create_task(allocator.run())
    yield Room(house, allocator, gateways, version)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_who_is_ended_in_the_moment_of_the_grant_gives_it_back(room: Room) -> None:
    first = room.one("first")
    asks = asyncio.create_task(room.allocator.acquire(first))
    while room.allocator.held_by(first) is None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    asks.cancel()
    async with asyncio.timeout(20):
        grant = await room.allocator.acquire(room.one("second"))
    assert asks.cancelled()
    assert room.allocator.taken(0) == grant.taken


async def test_who_is_waited_for_is_known_only_when_every_gateway_was_heard_since(
    room: Room,
) -> None:
    """The one that asked has left; another may have a client that waits, and has not said so."""
    await room.allocator.acquire(room.one("first"))
    room.gateways.hear(Told(gateway="another", knows=room.version.number), time.monotonic())
    room.version.bump()
    asks = asyncio.create_task(room.allocator.acquire(room.one("second", demanded=True)))
    await turned(20)
    assert not asks.done()
    knows = room.version.number
    room.gateways.hear(Told(gateway="another", knows=knows, busy={"second": 1}), time.monotonic())
    room.allocator.reconsider()
    await turned(20)
    assert not asks.done()
    room.gateways.hear(Told(gateway="another", knows=knows), time.monotonic())
    room.allocator.reconsider()
    with pytest.raises(ParkedError, match="Nobody waits for 'second' any more"):
        await asks
