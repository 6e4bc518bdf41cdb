"""Background tasks that live as long as the gateway and never fail silently."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine

log = logging.getLogger("hanlin.gateway")

PAUSE_SECONDS = 1.0

Work = Callable[[], Coroutine[None, None, None]]


@contextlib.asynccontextmanager
async def running(what: str, work: Work) -> AsyncIterator[None]:
    """Run it in the background; if it ends, log that and start it again."""
    task = asyncio.create_task(_again_and_again(what, work))
    try:
        yield
    finally:
        await _ended(task)


async def _again_and_again(what: str, work: Work) -> None:
    while True:
        task = asyncio.create_task(work())
        try:
            await asyncio.wait([task])
        finally:
            await _ended(task)
        problem = None if task.cancelled() else task.exception()
        log.error("%s ended, and begins again", what, exc_info=problem)
        await asyncio.sleep(PAUSE_SECONDS)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
