"""Who leaves for whom: never more than a lane has, nobody who may not, and no more than needed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serve.engines.lanes import (
    Evict,
    Home,
    Lane,
    Need,
    Never,
    Plan,
    Start,
    Tenant,
    Wait,
    decide,
    share,
)

STAY = 30.0
GIB = 1 << 30


def need(assistant: str, least: int = 10, *, lanes: int = 1, cache: int = 1, most: int = 4) -> Need:
    return Need(
        assistant=assistant, lanes=lanes, context=1, weights=least - cache - 1, activations=0,
        least_cache=cache, most_cache=most,
    )  # fmt: skip


def plan(*sizes: int, needs: Sequence[Need], homes: dict[str, Home] | None = None) -> Plan:
    return Plan(
        lanes=tuple(Lane(index, "gpu", size) for index, size in enumerate(sizes)),
        needs={one.assistant: one for one in needs},
        homes=homes or {},
        order=tuple(homes or {}),
        never={},
    )


def tenant(
    assistant: str,
    taken: int = 10,
    *lanes: int,
    in_flight: int = 0,
    idle: float = 100.0,
    ready_for: float | None = 100.0,
    pinned: bool = False,
    leaving: bool = False,
) -> Tenant:
    return Tenant(
        assistant=assistant, lanes=lanes or (0,), taken=taken, in_flight=in_flight, idle=idle,
        ready_for=ready_for, pinned=pinned, leaving=leaving,
    )  # fmt: skip


def asked(name: str, planned: Plan, *tenants: Tenant) -> Start | Evict | Wait | Never:
    return decide(name, planned, tenants, minimum_stay=STAY)


A, B, C = need("a"), need("b"), need("c")


def test_who_has_a_home_goes_home() -> None:
    planned = plan(24, 24, needs=[A, B], homes={"a": Home((1,), 3), "b": Home((0,), 4)})
    assert asked("a", planned) == Start((1,), 3)
    assert asked("a", planned, tenant("b", 13, 0)) == Start((1,), 3)


def test_at_home_beside_a_guest_the_cache_gives_way() -> None:
    planned = plan(24, needs=[A, B], homes={"a": Home((0,), 4)})
    assert asked("a", planned, tenant("b", 12)) == Start((0,), 3)
    assert asked("a", planned, tenant("b", 15)) == Evict(("b",))


def test_who_finds_its_home_taken_goes_where_there_is_room() -> None:
    planned = plan(10, 10, needs=[A, B], homes={"a": Home((0,), 1)})
    assert asked("a", planned, tenant("b", 10, 0)) == Start((1,), 1)


def test_a_guest_leaves_alone_the_homes_that_need_not_move() -> None:
    homes = {"a": Home((0,), 1), "c": Home((1,), 1)}
    planned = plan(12, 24, needs=[A, replace(B, most_cache=100), C], homes=homes)
    assert asked("b", planned) == Start((1,), 5)  # 24, less what c will take, less 9 that are fixed


def test_a_guest_takes_what_is_left_where_a_home_must_move_anyhow() -> None:
    planned = plan(14, needs=[A, B], homes={"a": Home((0,), 1)})
    assert asked("b", planned) == Start((0,), 4)


def test_a_guest_takes_no_more_than_it_can_use() -> None:
    assert asked("a", plan(100, needs=[A])) == Start((0,), 4)


def test_nobody_is_sent_away_while_another_lane_is_free() -> None:
    planned = plan(10, 10, needs=[A, B], homes={"b": Home((0,), 1)})
    assert asked("b", planned, tenant("a", 10, 0)) == Start((1,), 1)


def test_the_longest_unused_leaves() -> None:
    planned = plan(20, needs=[A, B, C])
    tenants = tenant("a", 10, idle=50), tenant("b", 10, idle=60)
    assert asked("c", planned, *tenants) == Evict(("b",))


def test_one_large_one_leaves_rather_than_two_that_are_older() -> None:
    planned = plan(20, needs=[A])
    small = tenant("x", 5, idle=900), tenant("y", 5, idle=800)
    assert asked("a", planned, *small, tenant("z", 10, idle=40)) == Evict(("z",))


def test_the_lane_is_taken_where_the_fewest_leave() -> None:
    planned = plan(20, 20, needs=[need("a", 15)])
    tenants = tenant("x", 8, 0, idle=900), tenant("y", 8, 0, idle=800), tenant("z", 18, 1, idle=1)
    assert asked("a", planned, *tenants) == Evict(("z",))


def test_as_many_leave_as_are_needed() -> None:
    planned = plan(20, needs=[replace(A, weights=18)])
    tenants = tenant("x", 5, idle=900), tenant("y", 5, idle=800), tenant("z", 10, idle=40)
    assert asked("a", planned, *tenants) == Evict(("x", "y", "z"))


@pytest.mark.parametrize(
    "held",
    [{"in_flight": 1}, {"ready_for": None}, {"ready_for": STAY - 1}],
    ids=["in use", "loading", "ready for too short a time"],
)
def test_who_may_not_leave_is_waited_for(held: dict[str, float]) -> None:
    planned = plan(10, needs=[A, B])
    stays = replace(tenant("b", idle=900), **held)
    found = asked("a", planned, stays)
    assert isinstance(found, Wait)
    assert found.reason.startswith("waits for room: b ")
    assert found.seconds == (1.0 if held.get("ready_for") else None)
    assert asked("a", replace(planned, lanes=(*planned.lanes, Lane(1, "gpu", 10))), stays,
                 tenant("c", 10, 1, idle=1)) == Evict(("c",))  # fmt: skip


def test_the_soonest_of_the_minimum_stays_is_waited_for() -> None:
    planned = plan(10, 10, needs=[A])
    found = asked("a", planned, tenant("x", 10, 0, ready_for=5), tenant("y", 10, 1, ready_for=20))
    assert found == Wait("waits for room: y stays a little longer", 10.0)


def test_who_stays_a_little_longer_is_waited_for_though_others_are_in_use() -> None:
    planned = plan(10, 10, needs=[A])
    busy = tenant("x", 10, 0, in_flight=3)
    found = asked("a", planned, busy, tenant("y", 10, 1, ready_for=20))
    assert isinstance(found, Wait)
    assert found.seconds == 10.0


def test_those_leaving_are_waited_for_before_another_is_sent_away() -> None:
    planned = plan(20, needs=[A])
    found = asked("a", planned, tenant("x", leaving=True), tenant("y"))
    assert found == Wait("waits for room: x is stopping", None)
    large = replace(planned, needs={"a": replace(A, weights=18)})
    assert asked("a", large, tenant("x", leaving=True), tenant("y")) == Evict(("y",))


def test_what_is_pinned_is_never_sent_away_and_that_is_said() -> None:
    found = asked("a", plan(10, needs=[A]), tenant("p", pinned=True))
    assert isinstance(found, Never)
    assert "pinned (p)" in found.reason
    assert "take `pinned`" in found.reason
    beside = asked("a", plan(20, needs=[A]), tenant("p", pinned=True), tenant("b", in_flight=1))
    assert isinstance(beside, Wait)
    assert "p " not in beside.reason


def test_an_older_engine_of_its_own_is_its_callers_business() -> None:
    found = asked("a", plan(10, needs=[A]), tenant("a"))
    assert isinstance(found, Wait)
    assert asked("a", plan(20, needs=[A]), tenant("a")) == Start((0,), 1)
    assert asked("a", plan(20, needs=[A]), tenant("a"), tenant("b")) == Evict(("b",))
    assert isinstance(asked("a", plan(10, needs=[A]), tenant("a", pinned=True)), Wait)


def test_who_never_fits_is_told_why() -> None:
    known = replace(plan(10, needs=[A]), never={"b": "It is too large; buy a GPU."})
    assert asked("b", known) == Never("It is too large; buy a GPU.")
    assert isinstance(asked("nobody", known), Never)
    lost = asked("a", replace(known, lanes=()))  # a GPU that is no longer there
    assert isinstance(lost, Never)
    assert "there is nothing" in lost.reason
    two = asked("a", plan(10, 5, needs=[need("a", lanes=2)]))
    assert isinstance(two, Never)
    assert "on each of 2 GPUs" in two.reason


def test_what_runs_on_a_lost_lane_holds_nothing() -> None:
    assert asked("a", plan(10, needs=[A]), tenant("b", 10, 7)) == Start((0,), 1)


def test_ranks_are_on_lanes_of_their_own() -> None:
    split = need("t", 10, lanes=2)
    planned = plan(20, 10, 20, needs=[split], homes={})
    assert asked("t", planned) == Start((0, 2), 4)
    assert asked("t", planned, tenant("x", 15, 0, idle=5), tenant("y", 5, 1, idle=7)) == Evict(
        ("y",)
    )


def test_one_that_spans_both_lanes_leaves_rather_than_two() -> None:
    planned = plan(20, 20, needs=[need("t", 10, lanes=2)])
    tenants = (
        tenant("wide", 8, 0, 1, idle=40),
        tenant("x", 8, 0, idle=900),
        tenant("y", 8, 1, idle=900),
    )
    assert asked("t", planned, *tenants) == Evict(("wide",))


def test_forty_small_ones_are_decided_at_once() -> None:
    """Trying every set of ten of forty would take for ever."""
    tenants = [tenant(f"x{n:02}", 10, idle=1000 - n) for n in range(40)]
    found = asked("a", plan(400, needs=[need("a", 95)]), *tenants)
    assert found == Evict(tuple(f"x{n:02}" for n in range(10)))


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
            name, draw(st.integers(cache + 2, 30)), lanes=draw(st.sampled_from([1, 1, 1, 2, 3])),
            cache=cache, most=cache + draw(st.integers(0, 9)),
        )  # fmt: skip
        able = [index for index, size in enumerate(sizes) if size >= one.least]
        if len(able) < one.lanes:
            continue
        needs.append(one)
        at = tuple(sorted(draw(st.permutations(able))[: one.lanes]))
        room = [
            sizes[i] - sum(n.fixed + homes[n.assistant].cache for n in needs[:-1]
                           if n.assistant in homes and i in homes[n.assistant].lanes) for i in at
        ]  # fmt: skip
        if min(room) >= one.least:
            homes[name] = Home(at, min(min(room) - one.fixed, one.most_cache))
    assume(needs)
    return plan(*sizes, needs=needs, homes=homes)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Plan, list[Tenant], str]:
    """Whoever runs was once let in, so no lane holds more than it has."""
    planned = draw(houses())
    tenants: list[Tenant] = []
    for name in draw(st.lists(st.sampled_from(sorted(planned.needs)), unique=True)):
        match asked(name, planned, *tenants):
            case Start(lanes, cache):
                tenants.append(
                    Tenant(
                        assistant=name, lanes=lanes, taken=planned.needs[name].fixed + cache,
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
        lane.index: sum(one.taken for one in tenants if lane.index in one.lanes)
        for lane in planned.lanes
    }


def may_leave(one: Tenant) -> bool:
    long = one.ready_for is not None and one.ready_for >= STAY
    return long and not (one.pinned or one.leaving or one.in_flight)


def fits(name: str, planned: Plan, tenants: Sequence[Tenant]) -> bool:
    taken, wanted = used(planned, tenants), planned.needs[name]
    able = [lane for lane in planned.lanes if lane.memory - taken[lane.index] >= wanted.least]
    return len(able) >= wanted.lanes


@settings(max_examples=300, deadline=None)
@given(situations())
def test_never_more_than_a_lane_has(situation: tuple[Plan, list[Tenant], str]) -> None:
    planned, tenants, name = situation
    found, wanted = asked(name, planned, *tenants), planned.needs[name]
    if not isinstance(found, Start):
        assert not fits(name, planned, tenants)
        return
    assert len(set(found.lanes)) == wanted.lanes
    assert wanted.least_cache <= found.cache <= wanted.most_cache
    taken = used(planned, [*tenants, replace(
        tenant(name), lanes=found.lanes, taken=wanted.fixed + found.cache)])  # fmt: skip
    assert all(taken[lane.index] <= lane.memory for lane in planned.lanes)


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


# ---- the share

SHARED = Need(
    assistant="a", lanes=1, context=GIB // 2, weights=4 * GIB, activations=GIB,
    least_cache=GIB, most_cache=64 * GIB,
)  # fmt: skip


@given(cache=st.integers(GIB, 64 * GIB), free=st.integers(7 * GIB, 192 * GIB))
def test_a_share_gives_the_cache_that_was_planned_or_what_there_is(cache: int, free: int) -> None:
    found = share(SHARED, cache, free)
    assert found == round(found, 4)
    assert 0 < found < 1
    available = free - SHARED.context - SHARED.weights
    taken = int(found * available)
    wanted = min(cache, available - SHARED.activations)
    assert taken <= wanted
    assert taken > wanted - available / 5_000


def test_a_share_of_nothing_is_still_one_the_engine_takes() -> None:
    assert share(SHARED, GIB, GIB) == 0.0001
    assert share(SHARED, GIB, 5 * GIB) == 0.0001
