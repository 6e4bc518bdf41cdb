"""Whoever asks and whoever is there: what holds of every decision about memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serve.engines.memory.placement import (
    Evict,
    Home,
    Never,
    Plan,
    Start,
    Tenant,
    Wait,
)
from tests.engines.memory.test_placement import STAY, A, B, C, asked, need, plan, tenant

# ---- properties

names = st.sampled_from("abcdefg")
stays = st.sampled_from([None, 0.0, STAY - 1, STAY, 500.0])


@st.composite
def houses(draw: st.DrawFn) -> Plan:
    sizes = draw(st.lists(st.integers(5, 40), min_size=1, max_size=4))
    needs, homes = [], {}
    for name in draw(st.lists(names, min_size=1, unique=True)):
        cache = draw(st.integers(1, 4))
        one = need(
            name, draw(st.integers(cache + 2, 30)), devices=draw(st.sampled_from([1, 1, 1, 2, 3])),
            cache=cache, most=cache + draw(st.integers(0, 9)),
        )  # fmt: skip
        able = [index for index, size in enumerate(sizes) if size >= one.least]
        if len(able) < one.devices:
            continue
        needs.append(one)
        at = tuple(sorted(draw(st.permutations(able))[: one.devices]))
        room = [
            sizes[i] - sum(n.fixed + homes[n.assistant].cache for n in needs[:-1]
                           if n.assistant in homes and i in homes[n.assistant].devices) for i in at
        ]  # fmt: skip
        if min(room) >= one.least:
            homes[name] = Home(at, min(min(room) - one.fixed, one.most_cache))
    assume(needs)
    return plan(*sizes, needs=needs, homes=homes)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Plan, list[Tenant], str]:
    """Whoever runs was once let in, so no device holds more than it has."""
    planned = draw(houses())
    tenants: list[Tenant] = []
    for name in draw(st.lists(st.sampled_from(sorted(planned.needs)), unique=True)):
        match asked(name, planned, *tenants):
            case Start(devices, cache):
                tenants.append(
                    Tenant(
                        assistant=name, devices=devices, taken=planned.needs[name].fixed + cache,
                        in_flight=draw(st.sampled_from([0, 0, 0, 2])),
                        idle=draw(st.integers(0, 5)), ready_for=draw(stays),
                        pinned=draw(st.sampled_from([False, False, False, True])),
                        leaving=draw(st.sampled_from([False, False, False, True])),
                    )
                )  # fmt: skip
    cold = sorted(set(planned.needs) - {one.assistant for one in tenants})
    assume(cold)
    return planned, tenants, draw(st.sampled_from(cold))


def used(planned: Plan, tenants: Sequence[Tenant]) -> dict[int, int]:
    return {
        device.index: sum(one.taken for one in tenants if device.index in one.devices)
        for device in planned.devices
    }


def may_leave(one: Tenant) -> bool:
    long = one.ready_for is not None and one.ready_for >= STAY
    return long and not (one.pinned or one.leaving or one.in_flight)


def fits(name: str, planned: Plan, tenants: Sequence[Tenant]) -> bool:
    taken, wanted = used(planned, tenants), planned.needs[name]
    able = [
        device for device in planned.devices if device.memory - taken[device.index] >= wanted.least
    ]
    return len(able) >= wanted.devices


@settings(max_examples=300, deadline=None)
@given(situations())
def test_never_more_than_a_device_has(situation: tuple[Plan, list[Tenant], str]) -> None:
    planned, tenants, name = situation
    found, wanted = asked(name, planned, *tenants), planned.needs[name]
    if not isinstance(found, Start):
        assert not fits(name, planned, tenants)
        return
    assert len(set(found.devices)) == wanted.devices
    assert wanted.least_cache <= found.cache <= wanted.most_cache
    taken = used(planned, [*tenants, replace(
        tenant(name), devices=found.devices, taken=wanted.fixed + found.cache)])  # fmt: skip
    assert all(taken[device.index] <= device.memory for device in planned.devices)


@settings(max_examples=300, deadline=None)
@given(situations())
def test_the_smallest_set_leaves_and_of_those_the_longest_unused(
    situation: tuple[Plan, list[Tenant], str],
) -> None:
    """Held against trying every set there is."""
    planned, tenants, name = situation
    found = asked(name, planned, *tenants)
    remaining = [one for one in tenants if not one.leaving]
    able = [one for one in remaining if may_leave(one)]
    best: tuple[int, list[float]] | None = None
    for size in range(len(able) + 1):
        for victims in itertools.combinations(able, size):
            if fits(name, planned, [one for one in remaining if one not in victims]):
                cost = size, [-idle for idle in sorted(victim.idle for victim in victims)]
                best = min(best or cost, cost)
    if not isinstance(found, Evict):
        assert isinstance(found, Start) or best is None or best[0] == 0
        return
    gone = [one for one in tenants if one.assistant in found.assistants]
    assert all(map(may_leave, gone))
    assert (len(gone), [-idle for idle in sorted(one.idle for one in gone)]) == best


@settings(max_examples=300, deadline=None)
@given(situations())
def test_a_wait_says_for_whom_and_never_is_said_only_of_what_is_pinned(
    situation: tuple[Plan, list[Tenant], str],
) -> None:
    planned, tenants, name = situation
    found = asked(name, planned, *tenants)
    pinned = [one for one in tenants if one.pinned and not one.leaving]
    if isinstance(found, Never):
        assert not fits(name, planned, pinned)
    if isinstance(found, Wait):
        assert fits(name, planned, pinned)
        assert found.reason.removeprefix("waits for room:").strip()
        if found.seconds is not None:  # by then somebody may leave, and it is no longer than needed
            later = [replace(one, ready_for=None if one.ready_for is None
                             else one.ready_for + found.seconds) for one in tenants]  # fmt: skip
            assert isinstance(asked(name, planned, *later), Evict)
            assert 0 < found.seconds <= STAY


@settings(max_examples=300, deadline=None)
@given(situations())
def test_among_idle_ones_everybody_who_fits_alone_is_let_in(
    situation: tuple[Plan, list[Tenant], str],
) -> None:
    planned, tenants, name = situation
    tenants = [
        replace(one, in_flight=0, ready_for=STAY, pinned=False, leaving=False) for one in tenants
    ]
    found = asked(name, planned, *tenants)
    if isinstance(found, Evict):
        left = [one for one in tenants if one.assistant not in found.assistants]
        assert len(left) < len(tenants)
        assert isinstance(asked(name, planned, *left), Start)
    else:
        assert isinstance(found, Start)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), max_size=60))
def test_those_asked_in_turn_do_not_drive_each_other_out(turns: list[tuple[int, str]]) -> None:
    """One GPU, three who each fill it, asked at any pace: a change needs a minimum stay each."""
    planned = plan(10, needs=[A, B, C])
    now, since, holder, changes = 0.0, -math.inf, "a", 0
    for later, name in turns:
        now += later
        if name == holder:
            continue
        there = tenant(holder, idle=0.0, ready_for=now - since)
        match asked(name, planned, there):
            case Evict(("a" | "b" | "c" as gone,)):
                assert gone == holder
                holder, since, changes = name, now, changes + 1
            case Wait(_, seconds):
                assert seconds == since + STAY - now
    assert changes <= now // STAY + 1
