"""The lifecycle of one replica: which state it is in, and what follows from what happens to it.

Pure decisions, by values. What acts on them is `replica`.

    stopped ──asked──▶ starting ──first token──▶ ready ──leave──▶ draining ──empty──▶ stopped
                        ▲    │                     │
                        │    └─────── ended ◀──────┘
                        └─ back-off ─┘  (`failed` instead of `starting` from the third in a row)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from serve.engines.policy import Policy
from serve.state import State

LINE = 200
"""So much of a line is enough to know it again in the log."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where one replica stands."""

    state: State = State.stopped
    endings: int = 0
    """In a row, without a stable time between them."""
    restarts: int = 0
    misses: int = 0
    reason: str | None = None
    """Why it is not ready, in one sentence."""
    fault: bool = False
    """The last start was worthless, and the next one is likely to be."""
    waits: bool = False
    """Its reason is that there is no room yet."""


def asked(status: Status) -> Status:
    """Somebody wants it: a stopped one starts; any other goes on as it is."""
    if status.state is not State.stopped:
        return status
    return replace(status, state=State.starting, reason=None)


def waits(status: Status, reason: str) -> Status:
    """There is no room for it yet. What has failed keeps saying why."""
    return replace(status, reason=reason, waits=True) if status.state is State.starting else status


def placed(status: Status) -> Status:
    """There is room now; why it waited is past."""
    return replace(status, reason=None, waits=False) if status.waits else status


def parked(status: Status, reason: str | None) -> Status:
    """It waits no longer: nobody asked, or nobody does any more. What has failed stays so."""
    if status.state is State.failed:
        return status
    return replace(status, state=State.stopped, reason=reason, waits=False)


def generated(status: Status) -> Status:
    """It wrote its first token."""
    return replace(status, state=State.ready, misses=0, reason=None, fault=False)


def probed(status: Status, *, alive: bool) -> Status:
    """It was asked for its health."""
    return replace(status, misses=0 if alive else status.misses + 1)


def hangs(status: Status, policy: Policy) -> bool:
    return status.misses >= policy.misses


def ended(status: Status, reason: str, *, served: float, policy: Policy, last: str = "") -> Status:
    """It ended, or could not be started, after `served` seconds in service. In a crash loop the
    `last` line it wrote is told too: whoever asks for it then is refused, and sees why."""
    endings = 1 if served >= policy.stable else status.endings + 1
    loops = endings >= policy.loop
    return Status(
        state=State.failed if loops else State.starting,
        endings=endings,
        restarts=status.restarts + 1,
        reason=f"{reason[:-1]}; its last line: {last.strip()[:LINE]}" if loops and last else reason,
    )


def faulted(status: Status, reason: str, policy: Policy) -> Status:
    """Its start was worthless, as it said itself: another at once would be too."""
    return Status(
        state=State.failed,
        endings=max(status.endings + 1, policy.loop),
        restarts=status.restarts + 1,
        reason=reason,
        fault=True,
    )


def unstartable(status: Status, reason: str) -> Status:
    """What it needs is not there; no attempt was made, so it is no crash loop either."""
    return replace(status, state=State.failed, reason=reason)


def leaving(status: Status) -> Status:
    """It is told to go: what is ready finishes its requests."""
    return replace(status, state=State.draining) if status.state is State.ready else status


def left(status: Status, reason: str | None) -> Status:
    """It is gone because it was told to."""
    return Status(restarts=status.restarts, reason=reason)


def noted(status: Status, reason: str | None) -> Status:
    """Something to be said of it; its state stays."""
    return replace(status, reason=reason)


def forgiven(status: Status) -> Status:
    """Something about it has changed: what was before counts no more."""
    return replace(status, endings=0, fault=False)


def news(before: Status, now: Status) -> str | None:
    """What a log should tell of a change, as the end of a sentence that begins with its name.

    Another reason alone is none: why something waits or fails changes every second.
    """
    if (before.state, before.restarts) == (now.state, now.restarts):
        return None
    return f"{now.state.told}{f': {now.reason}' if now.reason else ''}"


def wait_before(status: Status, policy: Policy, draw: float) -> float:
    """Seconds until the next attempt: doubled each time, spread by `draw` in [0, 1).

    The spread keeps engines that fell together from rising together.
    """
    if not status.endings:
        return policy.look_again
    if status.fault:
        return policy.longest_wait * (0.5 + draw / 2)
    doubled = policy.first_wait * 2.0 ** min(status.endings - 1, 32)
    return min(doubled, policy.longest_wait) * (0.5 + draw / 2)
