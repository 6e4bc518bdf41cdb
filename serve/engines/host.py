"""The engines of one host: which there are, what is asked of them, and how they stand."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from assistants.errors import HanlinError, UnknownAssistantError
from assistants.load import House
from assistants.schema import Assistant, Start
from serve.engines.backends.engine import Engine
from serve.engines.errors import WorkspaceError
from serve.engines.gateways import Gateways, Told
from serve.engines.memory import gpus
from serve.engines.memory.allocator import Allocator, NeverError
from serve.engines.memory.gpus import Seen
from serve.engines.memory.placement import Planner
from serve.engines.policy import Policy
from serve.engines.site import Ports, Site
from serve.engines.supervision.context import HostContext
from serve.engines.supervision.following import Following
from serve.engines.supervision.replica import Replica
from serve.engines.supervision.replicas import Replicas
from serve.engines.supervision.report import report
from serve.engines.supervision.updates import Updates
from serve.engines.version import Version
from serve.log_reader import Reader

log = logging.getLogger("hanlin.engines")

Work = Callable[[], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class Memory:
    """How the host learns what fits where."""

    plan: Planner
    gpus: Callable[[], Seen] = gpus.look


class Host:
    """Owns the engines of each assistant that is not served elsewhere."""

    def __init__(
        self, house: House, engine: Engine, site: Site, policy: Policy, memory: Memory
    ) -> None:
        self.version = Version()
        self.gateways = Gateways()
        self._house = house
        self._plan = memory.plan
        self._allocator = Allocator(
            memory.plan(house),
            serial=engine.serial,
            policy=policy,
            gateways=self.gateways,
            version=self.version,
        )
        self._context = HostContext(
            engine=engine,
            site=site,
            policy=policy,
            version=self.version,
            gateways=self.gateways,
            allocator=self._allocator,
            ports=Ports(site),
            gpus=memory.gpus,
            numbers=itertools.count(1),
        )
        self._replicas = Replicas(self._context)
        self._updates = Updates(self._replicas, self.version)
        self._houses: asyncio.Queue[House] = asyncio.Queue()
        self._problem: str | None = None
        for assistant in self._in_order(house):
            self._add(assistant)

    def report(self) -> dict[str, Any]:
        """All that is told of the host."""
        devices = [
            {"device": device.index, "kind": device.kind, "memory": device.memory,
             "taken": self._allocator.taken(device.index)}
            for device in self._allocator.plan.devices
        ]  # fmt: skip
        replicas = sorted(self._replicas, key=lambda replica: replica.assistant.name)
        reports = [report(replica, self._context) for replica in replicas]
        return {
            "version": self.version.number,
            "replicas": reports,
            "devices": devices,
            "problem": self._problem,
        }

    def hear(self, told: Told) -> None:
        """What a gateway says of itself."""
        self.gateways.hear(told, time.monotonic())
        self._allocator.reconsider()

    def lose(self, told: Told) -> None:
        """The gateway that said so is gone; what it had in flight, nobody waits for."""
        self.gateways.lose(told)
        self._allocator.reconsider()

    def longest_wait(self, wait: float) -> float:
        """How long a gateway may be left without an answer: while somebody waits for room, what
        others have in flight is news to be had every second."""
        return min(wait, self._context.policy.hearing) if self._allocator.asked_for else wait

    def ask(self, name: str, *, demanded: bool = False) -> None:
        """Have the engine of an assistant started; `demanded`: for as long as a gateway waits.

        Raises:
            UnknownAssistantError: there is none of that name that this host serves.
            NeverError: it can never fit.
        """
        replica = self.replica(name)
        if replica.ready_since is None and (never := self._never(replica)):
            raise NeverError(never)
        replica.ask(demanded=demanded)

    def update(self, name: str) -> None:
        """Have the engine of an assistant replaced by a new one.

        Raises:
            UnknownAssistantError: there is none of that name that this host serves.
        """
        self._updates.request(self.replica(name).assistant.name)

    def stop(self, name: str) -> None:
        """Have the engine of an assistant finish its requests and end, until it is asked for.

        Raises:
            UnknownAssistantError: there is none of that name that this host serves.
        """
        self.replica(name).go(f"'{name}' was told to stop; it starts when it is asked for.")

    def logs_of(self, name: str) -> Reader:
        """What its engines have written and will write.

        Raises:
            UnknownAssistantError: there is none of that name that this host serves.
        """
        own = self.replica(name).assistant.name
        return Reader(lambda: self._replicas.logs(own))

    def take_over(self, house: House) -> None:
        """Serve what is declared now."""
        self._houses.put_nowait(house)

    def tell(self, problem: str | None) -> None:
        """What is wrong with the declarations as they are now; None: they are served."""
        self._problem = problem
        self.version.bump()

    async def run(self, *more: Work) -> None:
        """Keep the engines up, and do `more` beside it, until cancelled; then drain and stop."""
        following = Following(self._replicas, self._context, self._updates, self._replan)
        works = (self._allocator.run, self._reload, following.workspaces, following.gpus, *more)
        tasks = [asyncio.create_task(work()) for work in works]
        engines = asyncio.create_task(self._replicas.run())
        try:
            await _first_failure((engines, *tasks))
        finally:
            await self._updates.stop()
            engines.cancel()
            await asyncio.wait({engines})
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.version.close()

    def replica(self, name: str) -> Replica:
        """The engine of an assistant, by its name or an alias.

        Raises:
            UnknownAssistantError: there is none of that name that this host serves.
        """
        found = self._replicas.current(self._house.get(name).name)
        if found is None:
            raise UnknownAssistantError(name, self._replicas.names)
        return found

    def _never(self, replica: Replica) -> str | None:
        try:
            self._context.require_startable(replica.assistant)
        except WorkspaceError:
            return None  # says so itself, and once it is built another plan is made
        return self._allocator.never(replica.assistant.name)

    def _in_order(self, house: House) -> list[Assistant]:
        """Those served here, in the order in which they are to be started."""
        order = {name: place for place, name in enumerate(self._allocator.plan.order)}
        here = [assistant for assistant in house if not assistant.upstreams]
        return sorted(here, key=lambda assistant: order.get(assistant.name, len(order)))

    def _add(self, assistant: Assistant) -> None:
        replica = self._replicas.add(assistant)
        if assistant.start is Start.at_once:
            replica.start()

    async def _reload(self) -> None:
        """Take over what is declared anew, one house after the other."""
        leaving: set[asyncio.Task[None]] = set()
        while True:
            house = await self._houses.get()
            await self._replan(house)
            self._house = house
            declared = {assistant.name: assistant for assistant in self._in_order(house)}
            for replica in list(self._replicas):
                if replica.assistant.name in declared:
                    replica.declare(declared[replica.assistant.name])
                elif self._replicas.current(replica.assistant.name) is replica:
                    said = f"'{replica.assistant.name}' is not declared any more."
                    task = asyncio.create_task(self._replicas.dismiss(replica, said))
                    leaving.add(task)
                    task.add_done_callback(leaving.discard)
            for assistant in declared.values():
                if self._replicas.current(assistant.name) is None:
                    self._add(assistant)

    async def _replan(self, house: House | None = None) -> None:
        try:
            plan = await asyncio.to_thread(self._plan, house or self._house)
        except HanlinError as error:
            log.error("The plan of memory stays as it was: %s", error)
        else:
            self._allocator.replan(plan)
            self.version.bump()


async def _first_failure(tasks: tuple[asyncio.Task[None], ...]) -> None:
    """Return when one fails; that one ends well says nothing."""
    waiting = set(tasks)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
