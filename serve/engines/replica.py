"""One engine of an assistant under supervision: acts out what `serve.engines.course` decides."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Any

from assistants.errors import HanlinError
from assistants.schema import Assistant, Start
from serve.engines import course as courses
from serve.engines.course import Course
from serve.engines.life import Ended, Hooks, Life
from serve.engines.premises import Premises, Recipe
from serve.engines.room import ParkedError, Seat
from serve.process import Process
from serve.state import State


class Replica:
    """The engine of one assistant, kept up for as long as it is wanted and `run` runs."""

    def __init__(self, assistant: Assistant, premises: Premises, *, place: int) -> None:
        self.id = f"{assistant.name}.{next(premises.numbers)}"
        self.place = place  # no two engines of one assistant that are there have the same
        self.assistant = assistant
        """What it is started from next; where that differs from what runs, see `Recipe`."""
        self.course = Course()
        self.evicts = assistant.pinned
        self.demanded = False
        self.ready_since: float | None = None
        self.leaving = False
        self.made_of: Recipe | None = None
        self._premises = premises
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._go = asyncio.Event()
        self._gone = asyncio.Event()
        self._gone.set()
        self._again = False
        self._farewell: str | None = None
        self._urgent = False
        self._deadline = 0.0
        self._left_in = 0
        self._since = time.time()
        self._process: Process | None = None
        self._life: Life | None = None
        self._memory: int | None = None
        self._port = 0

    # What it is told.

    def start(self) -> None:
        """Start it if it is stopped, where there is room without sending anybody away."""
        if self.leaving:
            self._again = True
            return
        self._wanted.set()
        self._become(courses.asked(self.course))

    def ask(self, *, demanded: bool = False) -> None:
        """Somebody wants it: others may leave for it. A missing workspace is looked for."""
        if self.ready_since is not None and not self.leaving:
            return
        self.demanded = demanded and (self.demanded or not self.wanted)
        self.evicts = True
        if not self.course.endings:  # a back-off is not for clients to cut short
            self._hurry.set()
        self.start()
        self._premises.room.look()

    def declare(self, assistant: Assistant) -> None:
        """It is declared otherwise now: the next start is of that."""
        if assistant.start is Start.at_once and self.assistant.start is not Start.at_once:
            self.start()
        self.assistant = assistant
        self.evicts = self.evicts or assistant.pinned

    def hurry(self) -> None:
        """What it failed of may be mended: try at once."""
        if self.course.state is State.failed:
            self._wanted.set()
        self._become(courses.forgiven(self.course))
        self._hurry.set()

    def go(self, reason: str | None = None, *, patience: float | None = None) -> None:
        """Finish the requests in flight, then end the process. With `patience`, for so long at
        most, and without asking the gateways whether they know."""
        longest = self.assistant.timeouts.total + self._premises.policy.slack
        self._deadline = time.monotonic() + (longest if patience is None else patience)
        self._urgent = patience is not None
        self._farewell, self._again = reason, False
        if self._gone.is_set():
            self._wanted.clear()
            self._become(courses.left(self.course, reason))
        elif not self.leaving:
            self.leaving = True
            self._left_in = self._become(courses.leaving(self.course))
            self._go.set()

    async def gone(self) -> None:
        """Return once it has left."""
        await self._gone.wait()

    def waits(self, reason: str) -> None:
        self._become(courses.waits(self.course, reason))

    def note(self, reason: str | None) -> None:
        """Something to be said of it that does not change its state."""
        self._become(courses.noted(self.course, reason))

    def condemn(self, what: str) -> None:
        """End its process now; what follows is as if it had ended by itself."""
        if self._life is not None:
            self._life.condemn(what)

    # What it says.

    @property
    def running(self) -> bool:
        return self._life is not None

    @property
    def wanted(self) -> bool:
        return (self._wanted.is_set() and not self.leaving) or self._again

    async def busy(self) -> int:
        """Requests in flight, as its engine says."""
        return await self._premises.busy(self._port) if self._life else 0

    def report(self) -> dict[str, Any]:
        """What the host tells of it."""
        seat = self._premises.room.seat(self)
        own = None if seat and seat.gpu else self._memory
        return {
            "id": self.id,
            "assistant": self.assistant.name,
            "url": self._premises.site.url(self._port) if self._life else "",
            "state": self.course.state.value,
            "restarts": self.course.restarts,
            "reason": self.course.reason,
            "log": self._process.tail() if self._process else [],
            "engine": self._premises.engine.name,
            "lanes": list(seat.lanes) if seat else [],
            "memory": (own or (seat.taken if seat else 0)) if self._life else 0,
            "since": round(self._since, 3),
            "pinned": self.assistant.pinned,
            "workspace": self.made_of.workspace if self.made_of else None,
        }

    # What it does.

    async def run(self) -> None:
        """Keep it up while it is wanted, for ever. When cancelled, its process is stopped."""
        while True:
            await self._wanted.wait()
            if not self._wanted.is_set():  # and told to go before this got its turn
                continue
            self._gone.clear()
            try:
                await self._until_it_goes()
            finally:
                self._settle()

    async def _until_it_goes(self) -> None:
        lives = asyncio.create_task(self._lives())
        told = asyncio.create_task(self._go.wait())
        try:
            await asyncio.wait({lives, told}, return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                await self._drain(lives)
        finally:
            for task in (told, lives):
                task.cancel()
                await asyncio.wait({task})
        if not lives.cancelled():
            lives.result()

    def _settle(self) -> None:
        """It runs no more; asked meanwhile, it begins anew."""
        again, self._again = self._again, False
        self.demanded = self.demanded and again
        for event in (self._wanted, self._go, self._hurry):
            event.clear()
        self.evicts = self.assistant.pinned
        if self.leaving:
            self.leaving = False
            self._become(courses.left(self.course, self._farewell))
        self._gone.set()
        if again:
            self.ask(demanded=self.demanded)

    async def _lives(self) -> None:
        """One life after the other, until nobody leaves for it or waits for it any more."""
        policy = self._premises.policy
        while True:
            self._hurry.clear()
            try:
                course = await self._live()
            except ParkedError as why:
                self._become(courses.parked(self.course, str(why)))
                return
            if self.leaving:
                return
            self._become(course)
            wait = courses.wait_before(course, policy, random.random())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), wait)

    async def _live(self) -> Course:
        """One life of the process, from finding a seat to the course its end leads to."""
        room, policy, name = self._premises.room, self._premises.policy, self.assistant.name
        try:
            self._premises.require_startable(self.assistant)
            seat = await room.enter(self)
            self._become(courses.seated(self.course))
            ended = await self._seated(seat)
        except ParkedError:
            raise
        except HanlinError as error:
            return courses.unstartable(self.course, str(error))
        finally:
            self.ready_since = None
            room.left(self)
            self.evicts = self.assistant.pinned  # one that crashes pushes nobody out unasked
        if ended.fault and ended.served < policy.stable:
            return courses.faulted(self.course, f"'{name}' is not served: {ended.what}", policy)
        reason = ended.what if ended.fault else f"The engine of '{name}' {ended.what}."
        return courses.ended(self.course, reason, served=ended.served, policy=policy)

    async def _seated(self, seat: Seat) -> Ended:
        premises, assistant = self._premises, self.assistant
        port = premises.ports.take()
        try:
            launch = await premises.launch(assistant, seat, port)
            self.made_of = premises.recipe(assistant)
            command = premises.engine.command(assistant, launch)
            log = premises.site.log(assistant.name, self.place)
            self._process = await Process.start(command, log, grace=premises.policy.grace)
            self._port = port
            return await self._watched(self._process, seat)
        finally:
            self._life = self.made_of = None
            premises.ports.give_back(port)

    async def _watched(self, process: Process, seat: Seat) -> Ended:
        engine, policy = self._premises.engine, self._premises.policy
        async with self._premises.site.client(self._port, seconds=policy.probe_timeout) as client:
            self._life = Life(process, client, self.assistant, engine, policy)
            ended = await self._life.run(Hooks(self._ready, self._missed, self._unused))
        if lost := await self._premises.lost(seat):
            return Ended(f"lost {lost}", ended.served)
        return ended

    def _ready(self) -> None:
        self.ready_since = time.monotonic()
        self.evicts, self.demanded = self.assistant.pinned, False
        self._memory = self._process.memory() if self._process else None
        if not self.leaving:
            self._become(courses.generated(self.course))
        self._premises.room.look()

    def _missed(self, alive: bool) -> bool:
        self.course = courses.probed(self.course, alive=alive)
        self._memory = self._process.memory() if self._process else None
        return courses.hangs(self.course, self._premises.policy)

    def _unused(self) -> bool:
        in_flight = self._premises.gateways.in_flight
        return not self.leaving and not in_flight(self.id, self.assistant.name, time.monotonic())

    async def _drain(self, lives: asyncio.Task[None]) -> None:
        """Wait until nothing is in flight, or for so long that what is must hang."""
        if self.course.state is not State.draining:
            return
        pause = self._premises.policy.poll_loading
        while time.monotonic() < self._deadline and not lives.done() and not await self._empty():
            await asyncio.wait({lives}, timeout=pause)

    async def _empty(self) -> bool:
        """Whether nobody sends to it any more, and all it was sent is answered."""
        gateways, now = self._premises.gateways, time.monotonic()
        if not self._urgent and not (
            gateways.all_know(self._left_in, now)
            and not gateways.in_flight(self.id, self.assistant.name, now)
        ):
            return False
        return not await self.busy()

    def _become(self, course: Course) -> int:
        """Returns the version that tells of it."""
        if course == self.course:
            return self._premises.board.version
        if course.state is not self.course.state:
            self._since = time.time()
        self.course = course
        return self._premises.board.turn()
