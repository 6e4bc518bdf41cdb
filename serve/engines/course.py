"""The course of one replica: which state it is in, and what follows from what happens to it.

Pure decisions, by values. What acts on them is `serve.engines.replica`.

    stopped ──asked──▶ starting ──first token──▶ ready ──leave──▶ draining ──empty──▶ stopped
                        ▲    │                     │
                        │    └─────── ended ◀──────┘
                        └─ back-off ─┘  (`failed` instead of `starting` from the third in a row)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from serve.state import State


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
    token_every: float = 60.0
    """How often one that nobody uses must write a token."""
    token_timeout: float = 30.0
    standstill: float = 2.0
    """So many times what a stream may take to begin, and an engine that has requests and gets on
    with none of them hangs."""
    drain: float = 30.0
    """How long requests in flight may take when the host stops."""
    slack: float = 5.0
    """Longer than the longest request that is declared possible, one waits for no engine to be free
    of requests; what is in flight then hangs."""
    grace: float = 10.0
    """From SIGTERM to SIGKILL."""
    minimum_stay: float = 20.0
    """So long an engine stays, once it is ready, before it makes room for another."""
    patience: float = 30.0
    """After so long a wait for room, one that is never without requests is drained too."""
    hearing: float = 1.0
    """How long the gateways may take to say who is idle before room is made."""
    look_at_gpus: float = 15.0


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
    fault: bool = False
    """The last start was worthless, and the next one is likely to be."""
    waits: bool = False
    """Its reason is that there is no room yet."""


def asked(course: Course) -> Course:
    """Somebody wants it: a stopped one starts; any other goes on as it is."""
    if course.state is not State.stopped:
        return course
    return replace(course, state=State.starting, reason=None)


def waits(course: Course, reason: str) -> Course:
    """There is no room for it yet. What has failed keeps saying why."""
    return replace(course, reason=reason, waits=True) if course.state is State.starting else course


def seated(course: Course) -> Course:
    """There is room now; why it waited is past."""
    return replace(course, reason=None, waits=False) if course.waits else course


def parked(course: Course, reason: str | None) -> Course:
    """It waits no longer: nobody asked, or nobody does any more. What has failed stays so."""
    if course.state is State.failed:
        return course
    return replace(course, state=State.stopped, reason=reason, waits=False)


def generated(course: Course) -> Course:
    """It wrote its first token."""
    return replace(course, state=State.ready, misses=0, reason=None, fault=False)


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


def faulted(course: Course, reason: str, policy: Policy) -> Course:
    """Its start was worthless, as it said itself: another at once would be too."""
    return Course(
        state=State.failed,
        endings=max(course.endings + 1, policy.loop),
        restarts=course.restarts + 1,
        reason=reason,
        fault=True,
    )


def unstartable(course: Course, reason: str) -> Course:
    """What it needs is not there; no attempt was made, so it is no crash loop either."""
    return replace(course, state=State.failed, reason=reason)


def leaving(course: Course) -> Course:
    """It is told to go: what is ready finishes its requests."""
    return replace(course, state=State.draining) if course.state is State.ready else course


def left(course: Course, reason: str | None) -> Course:
    """It is gone because it was told to."""
    return Course(restarts=course.restarts, reason=reason)


def noted(course: Course, reason: str | None) -> Course:
    """Something to be said of it; its state stays."""
    return replace(course, reason=reason)


def forgiven(course: Course) -> Course:
    """Something about it has changed: what was before counts no more."""
    return replace(course, endings=0, fault=False)


def wait_before(course: Course, policy: Policy, draw: float) -> float:
    """Seconds until the next attempt: doubled each time, spread by `draw` in [0, 1).

    The spread keeps engines that fell together from rising together.
    """
    if not course.endings:
        return policy.look_again
    if course.fault:
        return policy.longest_wait * (0.5 + draw / 2)
    doubled = policy.first_wait * 2.0 ** min(course.endings - 1, 32)
    return min(doubled, policy.longest_wait) * (0.5 + draw / 2)
