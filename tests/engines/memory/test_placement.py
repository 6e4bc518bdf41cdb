"""Who leaves for whom: no more than a device has, nobody who may not, no more than needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.engines.memory.placement import (
    Device,
    Evict,
    Home,
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


def need(
    assistant: str, least: int = 10, *, devices: int = 1, cache: int = 1, most: int = 4
) -> Need:
    return Need(
        assistant=assistant, devices=devices, context=1, weights=least - cache - 1, activations=0,
        least_cache=cache, most_cache=most,
    )  # fmt: skip


def plan(*sizes: int, needs: Sequence[Need], homes: dict[str, Home] | None = None) -> Plan:
    return Plan(
        devices=tuple(Device(index, "gpu", size) for index, size in enumerate(sizes)),
        needs={one.assistant: one for one in needs},
        homes=homes or {},
        order=tuple(homes or {}),
        never={},
    )


def tenant(
    assistant: str,
    taken: int = 10,
    *devices: int,
    in_flight: int = 0,
    idle: float = 100.0,
    ready_for: float | None = 100.0,
    pinned: bool = False,
    leaving: bool = False,
) -> Tenant:
    return Tenant(
        assistant=assistant, devices=devices or (0,), taken=taken, in_flight=in_flight, idle=idle,
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


def test_the_home_of_one_that_runs_is_not_kept_for_it_once_more() -> None:
    planned = plan(10, 24, needs=[A, replace(B, most_cache=100)], homes={"a": Home((1,), 1)})
    assert asked("b", planned, tenant("a", 10, 1)) == Start((1,), 5)


def test_a_guest_takes_what_is_left_where_a_home_must_move_anyhow() -> None:
    planned = plan(14, needs=[A, B], homes={"a": Home((0,), 1)})
    assert asked("b", planned) == Start((0,), 4)


def test_a_guest_takes_no_more_than_it_can_use() -> None:
    assert asked("a", plan(100, needs=[A])) == Start((0,), 4)


def test_nobody_is_sent_away_while_another_device_is_free() -> None:
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


def test_the_device_is_taken_where_the_fewest_leave() -> None:
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
    assert asked("a", replace(planned, devices=(*planned.devices, Device(1, "gpu", 10))), stays,
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
    lost = asked("a", replace(known, devices=()))  # a GPU that is no longer there
    assert isinstance(lost, Never)
    assert "there is nothing" in lost.reason
    two = asked("a", plan(10, 5, needs=[need("a", devices=2)]))
    assert isinstance(two, Never)
    assert "on each of 2 GPUs" in two.reason


def test_what_runs_on_a_lost_device_holds_nothing() -> None:
    assert asked("a", plan(10, needs=[A]), tenant("b", 10, 7)) == Start((0,), 1)


def test_ranks_are_on_devices_of_their_own() -> None:
    split = need("t", 10, devices=2)
    planned = plan(20, 10, 20, needs=[split], homes={})
    assert asked("t", planned) == Start((0, 2), 4)
    assert asked("t", planned, tenant("x", 15, 0, idle=5), tenant("y", 5, 1, idle=7)) == Evict(
        ("y",)
    )


def test_one_that_spans_both_devices_leaves_rather_than_two() -> None:
    planned = plan(20, 20, needs=[need("t", 10, devices=2)])
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


# ---- the share

SHARED = Need(
    assistant="a", devices=1, context=GIB // 2, weights=4 * GIB, activations=GIB,
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
