"""A gate lets in so many, keeps so many waiting in order, and sends the others away."""

from __future__ import annotations

import asyncio

import pytest

from serve.gateway.admission.counts import counts
from serve.gateway.admission.gates import Admission, Gate
from serve.gateway.admission.keys import ANYONE, Key
from serve.gateway.admission.rates import Rates
from serve.gateway.errors import BusyError, RateLimitedError
from tests.gateway.conftest import declare, house_of


def gate(concurrency: int = 1, queue: int = 1, seconds: float = 30) -> Gate:
    limits = {"concurrency": concurrency, "queue": queue, "queue_seconds": seconds}
    return Gate(declare(limits=limits))


async def waiting(door: Gate, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(door.enter()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_who_waits_gets_in_in_order() -> None:
    door = gate(queue=2)
    await door.enter()
    first, second = await waiting(door, 2)
    assert door.waiting == 2
    door.leave()
    await first
    assert (second.done(), door.inside) == (False, 1)
    door.leave()
    await second
    door.leave()
    assert (door.inside, door.waiting) == (0, 0)


async def test_a_full_queue_sends_away() -> None:
    door = gate()
    await door.enter()
    (queued,) = await waiting(door, 1)
    with pytest.raises(BusyError, match="1 requests run and 1 wait") as caught:
        await door.enter()
    assert (caught.value.status, caught.value.retry_after) == (429, 2)
    door.leave()
    await queued


async def test_a_wait_has_its_limit() -> None:
    door = gate(seconds=0.01)
    await door.enter()
    with pytest.raises(BusyError, match=r"no place became free in 0.01 s"):
        await door.enter()
    assert door.waiting == 0
    door.leave()
    assert door.inside == 0


async def test_who_leaves_the_queue_leaves_no_trace() -> None:
    door = gate(queue=2)
    await door.enter()
    first, second = await waiting(door, 2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert door.waiting == 1
    door.leave()
    await second
    assert door.inside == 1


async def test_a_place_given_to_one_who_just_left_goes_to_the_next() -> None:
    door = gate(queue=2)
    await door.enter()
    first, second = await waiting(door, 2)
    door.leave()
    first.cancel()  # in the same turn of the loop
    await asyncio.gather(first, return_exceptions=True)
    await second
    door.leave()
    assert door.inside == 0


async def test_who_is_sent_away_does_not_take_up_a_place_of_its_key() -> None:
    full = house_of(declare(limits={"concurrency": 1, "queue": 0}))
    admission = Admission(full, Rates(counts(None, away=lambda: None)))
    key = Key(name="page", concurrency=1)
    await admission.enter(ANYONE, "wishes", [])
    for _ in range(2):
        with pytest.raises(BusyError, match="which is all it takes"):
            await admission.enter(key, "wishes", [])
    admission.leave(ANYONE, "wishes")
    await admission.enter(key, "wishes", [])
    with pytest.raises(RateLimitedError, match="may have 1 requests at once"):
        await admission.enter(key, "wishes", [])
