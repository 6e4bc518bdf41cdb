"""Who may go on to an engine now, who waits, and who is told to come back later.

Engines queue without limit and without a time limit; so the limits of the declaration are kept
here. Keys and rates will be asked in the same place, before a gate.
"""

from __future__ import annotations

import asyncio
from collections import deque

from assistants import Assistant, House
from serve.gateway.errors import BusyError


class Gate:
    """`concurrency` requests of one assistant at once, the next `queue` in the order they came."""

    def __init__(self, assistant: Assistant) -> None:
        self._name = assistant.name
        self._limits = assistant.limits
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.inside = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enter(self) -> None:
        """Take a place; whoever took one must `leave`.

        Raises:
            BusyError: the queue is full, or no place became free in time.
        """
        if self.inside < self._limits.concurrency:
            self.inside += 1
            return
        if len(self._waiting) >= self._limits.queue:
            raise BusyError(
                f"The assistant '{self._name}' is busy: {self.inside} requests run and "
                f"{len(self._waiting)} wait, which is all it takes."
            )
        await self._wait()

    def leave(self) -> None:
        """Give the place to the first who still waits, or back."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.inside -= 1

    async def _wait(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.leave()  # given to us in the moment we gave up: it goes to the next
            elif place in self._waiting:
                self._waiting.remove(place)
            if isinstance(error, TimeoutError):
                raise BusyError(
                    f"The assistant '{self._name}' is busy: no place became free in "
                    f"{self._limits.queue_seconds:g} s."
                ) from None
            raise


class Admission:
    """The gates of a house."""

    def __init__(self, house: House) -> None:
        self._gates = {assistant.name: Gate(assistant) for assistant in house}

    def gate(self, assistant: str) -> Gate:
        return self._gates[assistant]
