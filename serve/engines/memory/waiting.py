"""What becomes of those who wait for room: who may start now, and who must leave for whom.

Pure decisions over the whole queue; `placement` decides for one assistant at a time, and
`allocator` acts on both.

First come, first served. Who comes later may start before only where that takes nothing from those
before: on devices none of them hopes for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from serve.engines.memory.placement import Evict, Never, Plan, Start, Tenant, Wait, decide

LONG = 1e9
"""Seconds that are enough for any stay and any idleness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How this host makes room; all in seconds but the first."""

    serial: bool
    """One start at a time on a device."""
    minimum_stay: float
    patience: float
    hearing: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A replica without a place."""

    replica: str
    assistant: str
    waited: float
    evicts: bool
    """Whether others leave for it: somebody asked, or it is pinned."""
    heard: bool
    """Whether every gateway has said who is idle since it waits."""


@dataclass(slots=True)
class Outcome:
    """What is to be done now; everything by replica, but who leaves by assistant."""

    starts: dict[str, Start] = field(default_factory=dict)
    leaves: dict[str, str] = field(default_factory=dict)
    """Who leaves, for whom."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why the others still wait."""
    parked: dict[str, str] = field(default_factory=dict)
    """Nobody leaves for these; they wait to be asked."""
    never: dict[str, str] = field(default_factory=dict)
    again: float | None = None
    """When to look again though nothing has changed."""


def outcome(
    queue: Iterable[Waiting], plan: Plan, tenants: Sequence[Tenant], rules: Rules
) -> Outcome:
    """Decide for everybody who waits, in their order."""
    looking = _Looking(plan, list(tenants), rules)
    for waiting in queue:
        looking.at(waiting)
    return looking.found


class _Looking:
    """Goes along the queue; what it grants and takes away counts for those behind."""

    def __init__(self, plan: Plan, tenants: list[Tenant], rules: Rules) -> None:
        self.found = Outcome()
        self._plan = plan
        self._tenants = tenants
        self._rules = rules
        self._kept: dict[int, str] = {}
        """Devices somebody before hopes for, and who."""

    def at(self, waiting: Waiting) -> None:
        decision = decide(
            waiting.assistant,
            self._plan,
            self._as_seen_by(waiting),
            minimum_stay=self._rules.minimum_stay,
        )
        match decision:
            case Start():
                self._start(waiting, decision)
            case Never(reason):
                self.found.never[waiting.replica] = reason
            case _ if not waiting.evicts:
                self.found.parked[waiting.replica] = (
                    f"'{waiting.assistant}' does not fit beside what runs; it starts when it is "
                    "asked for."
                )
            case Evict(names):
                self._evict(waiting, names)
            case Wait(reason, seconds):
                self._wait(waiting, reason, seconds)

    def _as_seen_by(self, waiting: Waiting) -> list[Tenant]:
        """After some patience, requests in flight protect nobody from being drained; the engine
        still goes only when they are answered."""
        if waiting.waited < self._rules.patience:
            return self._tenants
        return [replace(tenant, in_flight=0) for tenant in self._tenants]

    def _start(self, waiting: Waiting, start: Start) -> None:
        before = {self._kept[device] for device in start.devices if device in self._kept}
        if before:
            self._hold(waiting, f"waits for room: {_names(before)} came before", start.devices)
            return
        loading = self._loading(start.devices) if self._rules.serial else set()
        if loading:
            reason = f"waits until {_names(loading)} has loaded on the same GPU"
            self._hold(waiting, reason, start.devices)
            return
        self.found.starts[waiting.replica] = start
        self._tenants.append(_newcomer(waiting.assistant, start, self._plan))

    def _evict(self, waiting: Waiting, names: Sequence[str]) -> None:
        victims = [t for t in self._tenants if t.assistant in names and not t.leaving]
        devices = self._hoped(waiting)
        before = {self._kept[device] for device in devices if device in self._kept}
        unheard = self._rules.hearing - waiting.waited
        if before:
            self._hold(waiting, f"waits for room: {_names(before)} came before", devices)
        elif not waiting.heard and unheard > 0:
            self._hold(waiting, "waits for room", devices)
            self._look_again(unheard)
        else:
            self.found.leaves |= {victim.assistant: waiting.assistant for victim in victims}
            self._tenants = [replace(t, leaving=True) if t in victims else t for t in self._tenants]
            self._hold(waiting, f"waits for room: {_names(names)} is stopping", devices)

    def _wait(self, waiting: Waiting, reason: str, seconds: float | None) -> None:
        self._hold(waiting, reason, self._hoped(waiting))
        self._look_again(seconds)
        if (left := self._rules.patience - waiting.waited) > 0:
            self._look_again(left)

    def _hold(self, waiting: Waiting, reason: str, devices: Iterable[int]) -> None:
        self.found.reasons[waiting.replica] = reason
        for device in devices:
            self._kept.setdefault(device, waiting.assistant)

    def _look_again(self, seconds: float | None) -> None:
        if seconds is not None:
            known = self.found.again
            self.found.again = seconds if known is None else min(known, seconds)

    def _hoped(self, waiting: Waiting) -> tuple[int, ...]:
        """The devices it would take if nobody were in use; all where that is not known."""
        idle = [replace(t, in_flight=0, ready_for=LONG, idle=LONG) for t in self._tenants]
        everything = tuple(device.index for device in self._plan.devices)
        match decide(waiting.assistant, self._plan, idle, minimum_stay=0):
            case Start(devices, _):
                return devices
            case Evict(names) if self._plan.needs[waiting.assistant].devices == 1:
                return tuple(
                    {device for t in self._tenants if t.assistant in names for device in t.devices}
                )
        return everything

    def _loading(self, devices: Iterable[int]) -> set[str]:
        return {
            tenant.assistant
            for tenant in self._tenants
            if tenant.ready_for is None and set(tenant.devices) & set(devices)
        }


def _newcomer(assistant: str, start: Start, plan: Plan) -> Tenant:
    return Tenant(
        assistant=assistant,
        devices=start.devices,
        taken=plan.needs[assistant].fixed + start.cache,
        in_flight=0,
        idle=0.0,
        ready_for=None,
        pinned=False,
        leaving=False,
    )


def _names(names: Iterable[str] | Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
