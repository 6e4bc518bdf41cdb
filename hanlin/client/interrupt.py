"""Ctrl-C while something is awaited.

Left to Python, it may come after the last look at signals and before the system call that then
sleeps: nobody is told of it until that returns, and a read from an engine that hangs does not. An
event loop that handles the signal itself is woken by it whenever it comes.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine


async def unless_interrupted(work: Coroutine[None, None, None]) -> bool:
    """Do it until it is done or Ctrl-C ends it; whether it was done."""
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return False
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return True
