"""One engine of an assistant under supervision: acts out what `lifecycle` decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import replace

from assistants.errors import HanlinError
from assistants.schema import Assistant, Start
from serve.engines.memory.allocator import Grant, ParkedError
from serve.engines.supervision import lifecycle
from serve.engines.supervision.context import HostContext, Recipe
from serve.engines.supervision.leaving import Leave
from serve.engines.supervision.lifecycle import Status
from serve.engines.supervision.watch import Ended, Hooks, Watch
from serve.process import Process
from serve.state import State

log = logging.getLogger("hanlin.engines")


class Replica:
    """The engine of one assistant, kept up for as long as it is wanted and `run` runs."""

    def __init__(self, assistant: Assistant, context: HostContext, *, place: int) -> None:
        self.id = f"{assistant.name}.{next(context.numbers)}"
        self.place = place  # no two engines of one assistant that are there have the same
        self.assistant = assistant
        """What it is started from next; where that differs from what runs, see `Recipe`."""
        self.status = Status()
        self.evicts = assistant.pinned
        self.demanded = False
        self.ready_since: float | None = None
        self.leaving = False
        self.made_of: Recipe | None = None
        self.since = time.time()
        """When it came into its state."""
        self.process: Process | None = None
        """The one that runs, or ran last."""
        self.port = 0
        self.memory: int | None = None
        """Bytes its process was last seen to hold."""
        self._context = context
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._go = asyncio.Event()
        self._gone = asyncio.Event()
        self._gone.set()
        self._again = False
        self._leave = Leave()
        self._watch: Watch | None = None

    # What it is told.

    def start(self) -> None:
        """Start it if it is stopped, where there is room without sending anybody away."""
        if self.leaving:
            self._again = True
            return
        self._wanted.set()
        self._become(lifecycle.asked(self.status))

    def ask(self, *, demanded: bool = False) -> None:
        """Somebody wants it: others may leave for it. A missing workspace is looked for."""
        if self.ready_since is not None and not self.leaving:
            return
        self.demanded = demanded and (self.demanded or not self.wanted)
        self.evicts = True
        if not self.status.endings:  # a back-off is not for clients to cut short
            self._hurry.set()
        self.start()
        self._context.allocator.reconsider()

    def declare(self, assistant: Assistant) -> None:
        """It is declared otherwise now: the next start is of that."""
        if assistant.start is Start.at_once and self.assistant.start is not Start.at_once:
            self.start()
        self.assistant = assistant
        self.evicts = self.evicts or assistant.pinned

    def hurry(self) -> None:
        """What it failed of may be mended: try at once."""
        if self.status.state is State.failed:
            self._wanted.set()
        self._become(lifecycle.forgiven(self.status))
        self._hurry.set()

    def go(self, reason: str | None = None, *, patience: float | None = None) -> None:
        """Finish the requests in flight, then end the process. With `patience`, for so long at
        most, and without asking the gateways whether they know."""
        longest = self.assistant.timeouts.total + self._context.policy.slack
        deadline = time.monotonic() + (longest if patience is None else patience)
        urgent = patience is not None
        self._leave = replace(self._leave, reason=reason, deadline=deadline, urgent=urgent)
        self._again = False
        if self._gone.is_set():
            self._wanted.clear()
            self._become(lifecycle.left(self.status, reason))
        elif not self.leaving:
            self.leaving = True
            version = self._become(lifecycle.leaving(self.status))
            self._leave = replace(self._leave, version=version)
            self._go.set()

    async def gone(self) -> None:
        """Return once it has left."""
        await self._gone.wait()

    def waits(self, reason: str) -> None:
        self._become(lifecycle.waits(self.status, reason))

    def note(self, reason: str | None) -> None:
        """Something to be said of it that does not change its state."""
        self._become(lifecycle.noted(self.status, reason))

    def condemn(self, what: str) -> None:
        """End its process now; what follows is as if it had ended by itself."""
        if self._watch is not None:
            self._watch.condemn(what)

    # What it says.

    @property
    def running(self) -> bool:
        return self._watch is not None

    @property
    def wanted(self) -> bool:
        return (self._wanted.is_set() and not self.leaving) or self._again

    async def busy(self) -> int:
        """Requests in flight, as its engine says."""
        return await self._context.busy(self.port) if self._watch else 0

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
        runs = asyncio.create_task(self._runs())
        told = asyncio.create_task(self._go.wait())
        try:
            await asyncio.wait({runs, told}, return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                await self._drain(runs)
        finally:
            for task in (told, runs):
                task.cancel()
                await asyncio.wait({task})
        if not runs.cancelled():
            runs.result()

    def _settle(self) -> None:
        """It runs no more; asked meanwhile, it begins anew."""
        again, self._again = self._again, False
        self.demanded = self.demanded and again
        for event in (self._wanted, self._go, self._hurry):
            event.clear()
        self.evicts = self.assistant.pinned
        if self.leaving:
            self.leaving = False
            self._become(lifecycle.left(self.status, self._leave.reason))
        self._gone.set()
        if again:
            self.ask(demanded=self.demanded)

    async def _runs(self) -> None:
        """One process after the other, until nobody leaves for it or waits for it any more."""
        policy = self._context.policy
        while True:
            self._hurry.clear()
            try:
                status = await self._one_run()
            except ParkedError as why:
                self._become(lifecycle.parked(self.status, str(why)))
                return
            if self.leaving:
                return
            self._become(status)
            wait = lifecycle.wait_before(status, policy, random.random())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._hurry.wait()

    async def _one_run(self) -> Status:
        """One process, from the memory it is granted to the status its end leads to."""
        context, name = self._context, self.assistant.name
        try:
            context.require_startable(self.assistant)
            grant = await context.allocator.acquire(self)
            self._become(lifecycle.placed(self.status))
            ended = await self._placed(grant)
        except ParkedError:
            raise
        except HanlinError as error:
            return lifecycle.unstartable(self.status, str(error))
        finally:
            self.ready_since = None
            context.allocator.release(self)
            self.evicts = self.assistant.pinned  # one that crashes pushes nobody out unasked
        if ended.fault and ended.served < context.policy.stable:
            said = f"'{name}' is not served: {ended.what}"
            return lifecycle.faulted(self.status, said, context.policy)
        reason = ended.what if ended.fault else f"The engine of '{name}' {ended.what}."
        last = self.process.tail(1) if self.process and not ended.fault else []
        return lifecycle.ended(
            self.status, reason, served=ended.served, policy=context.policy, last="".join(last)
        )

    async def _placed(self, grant: Grant) -> Ended:
        context, assistant = self._context, self.assistant
        port = context.ports.take()
        try:
            launch = await context.launch(assistant, grant, port)
            self.made_of = context.recipe(assistant)
            command = context.engine.command(assistant, launch)
            file = context.site.log(assistant.name, self.place)
            self.process = await Process.start(command, file, grace=context.policy.grace)
            self.port = port
            if launch.gpus:
                where = ", ".join(map(str, launch.gpus))
                log.info(
                    "%s takes GPU %s, its cache %s of what is free", self.id, where, launch.share
                )
            return await self._watched(self.process, grant)
        finally:
            self._watch = self.made_of = None
            context.ports.give_back(port)

    async def _watched(self, process: Process, grant: Grant) -> Ended:
        engine, policy = self._context.engine, self._context.policy
        async with self._context.site.client(self.port, seconds=policy.probe_timeout) as client:
            self._watch = Watch(process, client, self.assistant, engine, policy)
            ended = await self._watch.run(Hooks(self._ready, self._missed, self._unused))
        if lost := await self._context.lost(grant):
            return Ended(f"lost {lost}", ended.served)
        return ended

    def _ready(self) -> None:
        self.ready_since = time.monotonic()
        self.evicts, self.demanded = self.assistant.pinned, False
        self.memory = self.process.memory() if self.process else None
        if not self.leaving:
            self._become(lifecycle.generated(self.status))
        self._context.allocator.reconsider()

    def _missed(self, alive: bool) -> bool:
        self.status = lifecycle.probed(self.status, alive=alive)
        self.memory = self.process.memory() if self.process else None
        return lifecycle.hangs(self.status, self._context.policy)

    def _unused(self) -> bool:
        in_flight = self._context.gateways.in_flight
        return not self.leaving and not in_flight(self.id, self.assistant.name, time.monotonic())

    async def _drain(self, runs: asyncio.Task[None]) -> None:
        """Wait until nothing is in flight, or for so long that what is must hang."""
        if self.status.state is not State.draining:
            return
        pause = self._context.policy.poll_loading
        while time.monotonic() < self._leave.deadline and not (runs.done() or await self._empty()):
            await asyncio.wait({runs}, timeout=pause)

    async def _empty(self) -> bool:
        """Whether nobody sends to it any more, and all it was sent is answered."""
        gateways, now = self._context.gateways, time.monotonic()
        alone = self._leave.left_alone(self.id, self.assistant.name, gateways, now)
        return alone and not await self.busy()

    def _become(self, status: Status) -> int:
        """Returns the version that tells of it."""
        if status == self.status:
            return self._context.version.number
        if said := lifecycle.news(self.status, status):
            wrong = status.state is State.failed or status.restarts > self.status.restarts
            log.log(logging.WARNING if wrong else logging.INFO, "%s %s", self.id, said)
        if status.state is not self.status.state:
            self.since = time.time()
        self.status = status
        return self._context.version.bump()
