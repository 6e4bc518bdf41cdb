"""What is told to end ends, though what it waits for comes in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assistants.load import House
from assistants.schema import Assistant
from serve.engines.gateways import Gateways
from serve.engines.memory.allocator import Allocator
from serve.engines.policy import Policy
from serve.engines.version import Version
from tests.engines.conftest import house_of, planned

Waiter = tuple[Callable[[], Coroutine[Any, Any, None]], Callable[[], object]]
"""What runs for ever, and what wakes it."""


@dataclass(eq=False)
class Loads:
    """A replica that loads, or waits for room to load in, for ever."""

    id: str
    assistant: Assistant
    evicts: bool = True
    demanded: bool = False
    ready_since: float | None = None
    leaving: bool = False

    async def busy(self) -> int:
        return 0

    def go(self, reason: str) -> None: ...

    def waits(self, reason: str) -> None: ...


def a_follower(house: House) -> Waiter:
    version = Version()

    async def follow() -> None:
        while True:
            await version.other_than(version.number, 60)

    return follow, version.bump


def an_allocator(house: House) -> Waiter:
    """One that looks again by itself, for somebody waits."""
    allocator = Allocator(
        planned(1)(house), serial=False, policy=Policy(), gateways=Gateways(), version=Version()
    )
    claimants = [Loads(name, house.get(name)) for name in ("first", "second")]

    async def allocate() -> None:
        waiting = [asyncio.create_task(allocator.acquire(one)) for one in claimants]
        try:
            await allocator.run()
        finally:
            for task in waiting:
                task.cancel()

    return allocate, allocator.reconsider


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("waiter", [a_follower, an_allocator])
async def test_whoever_waits_for_ever_can_be_ended(
    waiter: Callable[[House], Waiter], turns: int, tmp_path: Path
) -> None:
    """However far the news has come by then."""
    run, wake = waiter(house_of(tmp_path, "first", "second"))
    task = asyncio.create_task(run())
    await turned(20)
    wake()
    await turned(turns)
    task.cancel()
    await turned(20)
    assert task.cancelled()


async def turned(times: int) -> None:
    """Let everybody have so many turns of the loop."""
    for _ in range(times):
        await asyncio.sleep(0)
