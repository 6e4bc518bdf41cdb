"""Two answers that grow at the same time, shown together. Knows nothing of what they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

T = TypeVar("T")


class _Runner(Generic[T]):
    """One of the two: what it has brought last."""

    def __init__(self, growing: AsyncGenerator[T], bell: asyncio.Event) -> None:
        self.last: T | None = None
        self._growing = growing
        self._bell = bell

    async def run(self) -> None:
        async with aclosing(self._growing) as growing:
            async for step in growing:
                self.last = step
                self._bell.set()


async def both(
    left: AsyncGenerator[T], right: AsyncGenerator[T], *, pause: float
) -> AsyncGenerator[tuple[T | None, T | None]]:
    """The latest of each whenever one has grown, at most once in `pause` seconds.

    Closing this closes both.
    """
    bell = asyncio.Event()
    runners = _Runner(left, bell), _Runner(right, bell)
    running = [asyncio.create_task(runner.run()) for runner in runners]
    for task in running:
        task.add_done_callback(lambda _: bell.set())
    try:
        while True:
            await bell.wait()
            bell.clear()
            ended = all(task.done() for task in running)
            yield runners[0].last, runners[1].last
            if ended:
                break
            await asyncio.sleep(pause)
        for task in running:
            task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
