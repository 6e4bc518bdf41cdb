"""Concurrency limit and queue of each assistant: who goes on, who waits, who gets a 429.

Engines queue without limit and without a time limit; so the limits of the declaration are applied
here, after those of the key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from assistants import Assistant, House
from serve.gateway.admission.keys import Key
from serve.gateway.admission.rates import Headers, Rates
from serve.gateway.errors import BusyError, RateLimitedError

AGAIN_SECONDS = 1
"""When a key whose requests all run may try again: nobody knows, so soon."""


class Gate:
    """`concurrency` requests of one assistant at once, the next `queue` in the order they came."""

    def __init__(self, assistant: Assistant) -> None:
        self.name = assistant.name
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
                f"The assistant '{self.name}' is busy: {self.inside} requests run and "
                f"{len(self._waiting)} wait, which is all it takes."
            )
        await self._wait()

    def leave(self) -> None:
        """Give the place back; the first who still waits gets it."""
        self.inside -= 1
        self._let_in()

    def reload(self, assistant: Assistant) -> None:
        """Keep other limits from now on; who is inside stays."""
        self._limits = assistant.limits
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self.inside < self._limits.concurrency:
            place = self._waiting.popleft()
            if not place.done():
                self.inside += 1
                place.set_result(None)

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
                    f"The assistant '{self.name}' is busy: no place became free in "
                    f"{self._limits.queue_seconds:g} s."
                ) from None
            raise


class Admission:
    """The gates of a house, and how many requests of each key are inside."""

    def __init__(self, house: House, rates: Rates) -> None:
        self._gates: dict[str, Gate] = {}
        self._rates = rates
        self._inside: dict[str, int] = {}
        self.reload(house)

    def reload(self, house: House) -> None:
        """Keep the limits of another house. Who is inside has to come out by the same gate, so a
        gate stays where it is, also when its assistant is gone."""
        for assistant in house:
            if assistant.name in self._gates:
                self._gates[assistant.name].reload(assistant)
            else:
                self._gates[assistant.name] = Gate(assistant)

    @property
    def gates(self) -> Iterable[Gate]:
        return self._gates.values()

    def gate(self, assistant: str) -> Gate:
        return self._gates[assistant]

    async def enter(self, key: Key, assistant: str, headers: Headers) -> None:
        """Let a request in; whoever was let in must `leave`. `headers` are for its answer.

        Raises:
            NotAllowedError: the key is not for this assistant.
            RateLimitedError: the key has used up what it may.
            BusyError: the assistant's queue is full, or no place became free in time.
        """
        key.require(assistant)
        if key.limited:
            await self._rates.admit(key, headers)
            self._take(key)
        try:
            await self._gates[assistant].enter()
        except BaseException:
            self._give_back(key)
            raise

    def leave(self, key: Key, assistant: str) -> None:
        self._give_back(key)
        self._gates[assistant].leave()

    def _take(self, key: Key) -> None:
        inside = self._inside.get(key.name, 0)
        if key.concurrency is not None and inside >= key.concurrency:
            raise RateLimitedError(
                f"The key '{key.name}' may have {key.concurrency} requests at once, and has.",
                kind="concurrency",
                retry_after=AGAIN_SECONDS,
            )
        self._inside[key.name] = inside + 1

    def _give_back(self, key: Key) -> None:
        if key.limited:
            self._inside[key.name] -= 1
