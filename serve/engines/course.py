"""The course of one replica: which state it is in, and what follows from what happens to it.

Pure decisions, by values. What acts on them is `serve.engines.replica`.

    stopped ──asked──▶ starting ──first token──▶ ready ──stop──▶ draining
                        ▲    │                     │
                        │    └─────── ended ◀──────┘
                        └─ back-off ─┘  (`failed` instead of `starting` from the third in a row)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """What the gateway is told of a replica."""

    stopped = "stopped"
    starting = "starting"
    ready = "ready"
    failed = "failed"
    draining = "draining"


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the host is with an engine; all in seconds but the counts."""

    load: float = 600.0
    """How long until its first token."""
    stable: float = 60.0
    """After so long in service, an ending counts as the first again."""
    loop: int = 3
    """So many endings in a row are a crash loop."""
    first_wait: float = 0.5
    longest_wait: float = 60.0
    look_again: float = 2.0
    """How often a missing workspace is looked for."""
    probe_every: float = 5.0
    probe_timeout: float = 5.0
    misses: int = 3
    """So many probes in a row without an answer, and the engine hangs."""
    poll_loading: float = 0.2
    drain: float = 30.0
    """How long requests in flight may take when the host stops."""
    grace: float = 10.0
    """From SIGTERM to SIGKILL."""


@dataclass(frozen=True, slots=True)
class Course:
    """Where one replica stands."""

    state: State = State.stopped
    endings: int = 0
    """In a row, without a stable time between them."""
    restarts: int = 0
    misses: int = 0
    reason: str | None = None
    """Why it is not ready, in one sentence."""


def asked(course: Course) -> Course:
    """Somebody wants it: a stopped one starts; any other goes on as it is."""
    return replace(course, state=State.starting) if course.state is State.stopped else course


def generated(course: Course) -> Course:
    """It wrote its first token."""
    return replace(course, state=State.ready, misses=0, reason=None)


def probed(course: Course, *, alive: bool) -> Course:
    """It was asked for its health."""
    return replace(course, misses=0 if alive else course.misses + 1)


def hangs(course: Course, policy: Policy) -> bool:
    return course.misses >= policy.misses


def ended(course: Course, reason: str, *, served: float, policy: Policy) -> Course:
    """It ended, or could not be started, after `served` seconds in service."""
    endings = 1 if served >= policy.stable else course.endings + 1
    return Course(
        state=State.failed if endings >= policy.loop else State.starting,
        endings=endings,
        restarts=course.restarts + 1,
        reason=reason,
    )


def unstartable(course: Course, reason: str) -> Course:
    """What it needs is not there; no attempt was made, so it is no crash loop either."""
    return replace(course, state=State.failed, reason=reason)


def stopping(course: Course) -> Course:
    """The host ends; what is ready finishes its requests."""
    if course.state is State.ready:
        return replace(course, state=State.draining)
    return replace(course, state=State.stopped)


def wait_before(course: Course, policy: Policy, draw: float) -> float:
    """Seconds until the next attempt: doubled each time, spread by `draw` in [0, 1).

    The spread keeps engines that fell together from rising together.
    """
    if not course.endings:
        return policy.look_again
    doubled = policy.first_wait * 2.0 ** min(course.endings - 1, 32)
    return min(doubled, policy.longest_wait) * (0.5 + draw / 2)
