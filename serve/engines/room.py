"""The memory of this host: who is there, who waits, who is told to leave. Acts out `waiting`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from assistants.schema import Assistant
from serve.engines.board import Board
from serve.engines.course import Policy
from serve.engines.errors import EngineError
from serve.engines.gateways import Gateways
from serve.engines.lanes import Need, Never, Plan, Start, Tenant, decide
from serve.engines.waiting import Outcome, Rules, Waiting, outcome

BUSY_AGAIN = 1.0
"""An engine that says it is busy, though no gateway does, is asked again after so long."""


class NeverError(EngineError):
    """There is no room for it, and there will be none as things are declared."""


class ParkedError(EngineError):
    """It waits no longer: nobody leaves for it unasked, or nobody asks any more."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one engine runs, and what it may take there."""

    lanes: tuple[int, ...]
    need: Need
    cache: int
    gpu: bool
    """Whether its lanes are GPUs."""

    @property
    def taken(self) -> int:
        return self.need.fixed + self.cache


class Guest(Protocol):
    """What takes a seat: one replica."""

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
    guest: Guest
    since: float
    version: int
    """The gateways that know this one have been heard since it waits."""
    seat: asyncio.Future[Seat]


class Room:
    """Seats for engines, first come, first served."""

    def __init__(
        self,
        plan: Plan,
        *,
        serial: bool,
        policy: Policy,
        gateways: Gateways,
        board: Board,
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
        self._board = board
        self._clock = clock
        self._inside: dict[Guest, Seat] = {}
        self._queue: list[_Entry] = []
        self._changed = asyncio.Event()

    def replan(self, plan: Plan) -> None:
        """What is declared, built or present is another now."""
        self.plan = plan
        self.look()

    def look(self) -> None:
        """Something changed that may let somebody in."""
        self._changed.set()

    async def enter(self, guest: Guest) -> Seat:
        """Wait for a seat; it is held until `left`.

        Raises:
            NeverError: there will be none.
            ParkedError: there is none, and nobody leaves for this guest.
        """
        seat: asyncio.Future[Seat] = asyncio.get_running_loop().create_future()
        entry = _Entry(guest, self._clock(), self._board.version, seat)
        self._queue.append(entry)
        self.look()
        try:
            return await seat
        except asyncio.CancelledError:
            self.left(guest)
            raise
        finally:
            self._queue = [waiting for waiting in self._queue if waiting is not entry]

    def left(self, guest: Guest) -> None:
        """Its process is gone."""
        self._inside.pop(guest, None)
        self.look()

    def never(self, assistant: str) -> str | None:
        """Why there will be no room for it, if so."""
        decision = decide(
            assistant, self.plan, self._tenants({}), minimum_stay=self._rules.minimum_stay
        )
        return decision.reason if isinstance(decision, Never) else None

    @property
    def asked_for(self) -> bool:
        """Whether somebody waits for whom others leave."""
        return any(entry.guest.evicts and not entry.seat.done() for entry in self._queue)

    def seat(self, guest: Guest) -> Seat | None:
        return self._inside.get(guest)

    def taken(self, lane: int) -> int:
        """Bytes of a lane that are planned for those inside."""
        return sum(seat.taken for seat in self._inside.values() if lane in seat.lanes)

    async def run(self) -> None:
        """Let in and send away, for ever."""
        while True:
            self._changed.clear()
            again = await self._once()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), again)

    async def _once(self) -> float | None:
        """Returns after how many seconds to look again though nothing changes."""
        busy: dict[str, int] = {}
        while True:
            self._send_home()
            found = outcome(self._waiting(), self.plan, self._tenants(busy), self._rules)
            unasked = [g for g in self._inside if g.assistant.name in found.leaves]
            unasked = [guest for guest in unasked if guest.id not in busy]
            if not unasked:  # what the engines say themselves counts too
                break
            said = await asyncio.gather(*(guest.busy() for guest in unasked))
            busy |= {guest.id: count for guest, count in zip(unasked, said, strict=True)}
        self._act(found)
        waits = [found.again, BUSY_AGAIN if any(busy.values()) else None]
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def _send_home(self) -> None:
        """Those whose askers went away."""
        now = self._clock()
        for entry in self._queue:
            name = entry.guest.assistant.name
            if (
                entry.guest.demanded
                and not entry.seat.done()
                and self._gateways.all_know(entry.version, now)
                and not self._gateways.busy(name, now)
            ):
                entry.seat.set_exception(ParkedError(f"Nobody waits for '{name}' any more."))

    def _waiting(self) -> list[Waiting]:
        now = self._clock()
        return [
            Waiting(
                replica=entry.guest.id,
                assistant=entry.guest.assistant.name,
                waited=now - entry.since,
                evicts=entry.guest.evicts,
                heard=self._gateways.all_know(entry.version, now),
            )
            for entry in self._queue
            if not entry.seat.done()
        ]

    def _tenants(self, busy: dict[str, int]) -> list[Tenant]:
        now = self._clock()
        return [self._tenant(guest, seat, busy.get(guest.id, 0), now) for guest, seat in
                self._inside.items()]  # fmt: skip

    def _tenant(self, guest: Guest, seat: Seat, busy: int, now: float) -> Tenant:
        name, since = guest.assistant.name, guest.ready_since
        ready_for = None if since is None else now - since
        idle = self._gateways.idle(name, now)
        return Tenant(
            assistant=name,
            lanes=seat.lanes,
            taken=seat.taken,
            in_flight=max(busy, self._gateways.busy(name, now)),
            idle=min(idle if idle is not None else ready_for or 0.0, ready_for or 0.0),
            ready_for=ready_for,
            pinned=guest.assistant.pinned,
            leaving=guest.leaving,
        )

    def _act(self, found: Outcome) -> None:
        for entry in self._queue:
            guest, seat = entry.guest, entry.seat
            if seat.done():
                continue
            if guest.id in found.starts:
                self._inside[guest] = self._seat(guest, found.starts[guest.id])
                seat.set_result(self._inside[guest])
            elif guest.id in found.never:
                seat.set_exception(NeverError(found.never[guest.id]))
            elif guest.id in found.parked:
                seat.set_exception(ParkedError(found.parked[guest.id]))
            elif guest.id in found.reasons:
                guest.waits(found.reasons[guest.id])
        for guest in list(self._inside):
            name = guest.assistant.name
            if name in found.leaves and not guest.leaving:
                guest.go(f"'{name}' made room for '{found.leaves[name]}'.")

    def _seat(self, guest: Guest, start: Start) -> Seat:
        kinds = {lane.index: lane.kind for lane in self.plan.lanes}
        gpu = all(kinds[index] == "gpu" for index in start.lanes)
        return Seat(start.lanes, self.plan.needs[guest.assistant.name], start.cache, gpu)
