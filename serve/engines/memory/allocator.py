"""Grants memory of this host: who holds some, who waits, who must go. Acts out `waiting`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from assistants.schema import Assistant
from serve.engines.errors import EngineError
from serve.engines.gateways import Gateways
from serve.engines.memory.placement import Need, Never, Plan, Start, Tenant, decide
from serve.engines.memory.waiting import Outcome, Rules, Waiting, outcome
from serve.engines.policy import Policy
from serve.engines.version import Version

BUSY_AGAIN = 1.0
"""An engine that says it is busy, though no gateway does, is asked again after so long."""


class NeverError(EngineError):
    """There is no room for it, and there will be none as things are declared."""


class ParkedError(EngineError):
    """It waits no longer: nobody leaves for it unasked, or nobody asks any more."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Where one engine runs, and what it may take there."""

    devices: tuple[int, ...]
    need: Need
    cache: int
    gpu: bool
    """Whether its devices are GPUs."""

    @property
    def taken(self) -> int:
        return self.need.fixed + self.cache


class Claimant(Protocol):
    """What memory is granted to: one replica."""

    id: str
    assistant: Assistant
    evicts: bool
    """Whether others leave for it."""
    demanded: bool
    """Whether a gateway asked because somebody waits."""
    ready_since: float | None
    leaving: bool

    async def busy(self) -> int: ...
    def go(self, reason: str) -> None: ...
    def waits(self, reason: str) -> None: ...


@dataclass(eq=False, slots=True)
class _Entry:
    claimant: Claimant
    since: float
    version: int
    """The gateways that know this one have been heard since it waits."""
    grant: asyncio.Future[Grant]


class Allocator:
    """Memory for engines, first come, first served."""

    def __init__(
        self,
        plan: Plan,
        *,
        serial: bool,
        policy: Policy,
        gateways: Gateways,
        version: Version,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self._rules = Rules(
            serial=serial,
            minimum_stay=policy.minimum_stay,
            patience=policy.patience,
            hearing=policy.hearing,
        )
        self._gateways = gateways
        self._version = version
        self._clock = clock
        self._held: dict[Claimant, Grant] = {}
        self._queue: list[_Entry] = []
        self._changed = asyncio.Event()

    def replan(self, plan: Plan) -> None:
        """What is declared, built or present is another now."""
        self.plan = plan
        self.reconsider()

    def reconsider(self) -> None:
        """Something changed that may make room for somebody."""
        self._changed.set()

    async def acquire(self, claimant: Claimant) -> Grant:
        """Wait for memory; it is held until `release`.

        Raises:
            NeverError: there will be none.
            ParkedError: there is none, and nobody leaves for this one.
        """
        grant: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        entry = _Entry(claimant, self._clock(), self._version.number, grant)
        self._queue.append(entry)
        self.reconsider()
        try:
            return await grant
        except asyncio.CancelledError:
            self.release(claimant)
            raise
        finally:
            self._queue = [waiting for waiting in self._queue if waiting is not entry]

    def release(self, claimant: Claimant) -> None:
        """Its process is gone."""
        self._held.pop(claimant, None)
        self.reconsider()

    def never(self, assistant: str) -> str | None:
        """Why there will be no room for it, if so."""
        decision = decide(
            assistant, self.plan, self._tenants({}), minimum_stay=self._rules.minimum_stay
        )
        return decision.reason if isinstance(decision, Never) else None

    @property
    def asked_for(self) -> bool:
        """Whether somebody waits for whom others leave."""
        return any(entry.claimant.evicts and not entry.grant.done() for entry in self._queue)

    def held_by(self, claimant: Claimant) -> Grant | None:
        return self._held.get(claimant)

    def taken(self, device: int) -> int:
        """Bytes of a device that are planned for those who hold some."""
        return sum(grant.taken for grant in self._held.values() if device in grant.devices)

    async def run(self) -> None:
        """Grant and take back, for ever."""
        while True:
            self._changed.clear()
            again = await self._once()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again):
                    await self._changed.wait()

    async def _once(self) -> float | None:
        """Returns after how many seconds to look again though nothing changes."""
        busy: dict[str, int] = {}
        while True:
            self._send_home()
            found = outcome(self._waiting(), self.plan, self._tenants(busy), self._rules)
            unasked = [c for c in self._held if c.assistant.name in found.leaves]
            unasked = [claimant for claimant in unasked if claimant.id not in busy]
            if not unasked:  # what the engines say themselves counts too
                break
            said = await asyncio.gather(*(claimant.busy() for claimant in unasked))
            busy |= {claimant.id: count for claimant, count in zip(unasked, said, strict=True)}
        self._act(found)
        waits = [found.again, BUSY_AGAIN if any(busy.values()) else None]
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def _send_home(self) -> None:
        """Those whose askers went away."""
        now = self._clock()
        for entry in self._queue:
            name = entry.claimant.assistant.name
            if (
                entry.claimant.demanded
                and not entry.grant.done()
                and self._gateways.all_know(entry.version, now)
                and not self._gateways.busy(name, now)
            ):
                entry.grant.set_exception(ParkedError(f"Nobody waits for '{name}' any more."))

    def _waiting(self) -> list[Waiting]:
        now = self._clock()
        return [
            Waiting(
                replica=entry.claimant.id,
                assistant=entry.claimant.assistant.name,
                waited=now - entry.since,
                evicts=entry.claimant.evicts,
                heard=self._gateways.all_know(entry.version, now),
            )
            for entry in self._queue
            if not entry.grant.done()
        ]

    def _tenants(self, busy: dict[str, int]) -> list[Tenant]:
        now = self._clock()
        return [
            self._tenant(claimant, grant, busy.get(claimant.id, 0), now)
            for claimant, grant in self._held.items()
        ]

    def _tenant(self, claimant: Claimant, grant: Grant, busy: int, now: float) -> Tenant:
        name, since = claimant.assistant.name, claimant.ready_since
        ready_for = None if since is None else now - since
        idle = self._gateways.idle(name, now)
        return Tenant(
            assistant=name,
            devices=grant.devices,
            taken=grant.taken,
            in_flight=max(busy, self._gateways.busy(name, now)),
            idle=min(idle if idle is not None else ready_for or 0.0, ready_for or 0.0),
            ready_for=ready_for,
            pinned=claimant.assistant.pinned,
            leaving=claimant.leaving,
        )

    def _act(self, found: Outcome) -> None:
        for entry in self._queue:
            claimant, grant = entry.claimant, entry.grant
            if grant.done():
                continue
            if claimant.id in found.starts:
                self._held[claimant] = self._grant(claimant, found.starts[claimant.id])
                grant.set_result(self._held[claimant])
            elif claimant.id in found.never:
                grant.set_exception(NeverError(found.never[claimant.id]))
            elif claimant.id in found.parked:
                grant.set_exception(ParkedError(found.parked[claimant.id]))
            elif claimant.id in found.reasons:
                claimant.waits(found.reasons[claimant.id])
        for claimant in list(self._held):
            name = claimant.assistant.name
            if name in found.leaves and not claimant.leaving:
                claimant.go(f"'{name}' made room for '{found.leaves[name]}'.")

    def _grant(self, claimant: Claimant, start: Start) -> Grant:
        kinds = {device.index: device.kind for device in self.plan.devices}
        gpu = all(kinds[index] == "gpu" for index in start.devices)
        return Grant(start.devices, self.plan.needs[claimant.assistant.name], start.cache, gpu)
