"""Who may start and who must leave, for a whole queue at once, by values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.engines.memory.placement import Device, Plan, Tenant
from serve.engines.memory.waiting import Outcome, Rules, Waiting, outcome
from tests.engines.conftest import UNIT, need

RULES = Rules(serial=False, minimum_stay=20, patience=30, hearing=1)
SERIAL = Rules(serial=True, minimum_stay=20, patience=30, hearing=1)


def plan(*devices: int, **needs: int) -> Plan:
    return Plan(
        devices=tuple(Device(index, "gpu", size * UNIT) for index, size in enumerate(devices)),
        needs={name: need(name, units) for name, units in needs.items()},
        homes={},
        order=(),
        never={"huge": "'huge' is too large."},
    )


def waits(name: str, waited: float = 5, *, evicts: bool = True, heard: bool = True) -> Waiting:
    return Waiting(replica=f"{name}.1", assistant=name, waited=waited, evicts=evicts, heard=heard)


def tenant(name: str, device: int = 0, units: int = 1, **changes: object) -> Tenant:
    given: dict[str, object] = {
        "in_flight": 0, "idle": 60.0, "ready_for": 60.0, "pinned": False, "leaving": False,
    }  # fmt: skip
    return Tenant(assistant=name, devices=(device,), taken=units * UNIT, **{**given, **changes})  # type: ignore[arg-type]


def starts(found: Outcome) -> dict[str, tuple[int, ...]]:
    return {replica: start.devices for replica, start in found.starts.items()}


def test_all_that_fit_start_at_once() -> None:
    queue = [waits("a"), waits("b"), waits("c")]
    found = outcome(queue, plan(3, a=1, b=1, c=1), (), RULES)
    assert starts(found) == {"a.1": (0,), "b.1": (0,), "c.1": (0,)}


def test_serial_starts_are_one_at_a_time_on_a_device() -> None:
    queue = [waits("a"), waits("b"), waits("c")]
    found = outcome(queue, plan(3, 3, a=3, b=1, c=1), (), SERIAL)
    assert starts(found) == {"a.1": (0,), "b.1": (1,)}
    assert found.reasons == {"c.1": "waits until 'b' has loaded on the same GPU"}
    loading = [tenant("b", 1, ready_for=None), tenant("a", 0, 3)]
    assert not outcome([waits("c")], plan(3, 3, a=3, b=1, c=1), loading, SERIAL).starts
    loaded = [tenant("b", 1), tenant("a", 0, 3)]
    assert outcome([waits("c")], plan(3, 3, a=3, b=1, c=1), loaded, SERIAL).starts


def test_one_that_waits_its_turn_to_load_is_not_parked() -> None:
    found = outcome([waits("b", evicts=False)], plan(3, a=1, b=1), [tenant("a", ready_for=None)],
                    SERIAL)  # fmt: skip
    assert not found.parked
    assert found.reasons == {"b.1": "waits until 'a' has loaded on the same GPU"}


def test_the_one_unused_for_longest_leaves_for_the_first() -> None:
    inside = [tenant("a", idle=10), tenant("b", idle=50)]
    found = outcome([waits("c"), waits("d")], plan(2, a=1, b=1, c=1, d=1), inside, RULES)
    assert found.leaves == {"b": "c"}
    assert found.reasons["c.1"] == "waits for room: 'b' is stopping"
    assert found.reasons["d.1"].startswith("waits for room: ")


def test_nobody_overtakes_into_room_the_first_hopes_for() -> None:
    """One unit is free, and the first needs two: the small one behind it must not take it."""
    inside = [tenant("a", units=2, in_flight=1)]
    found = outcome([waits("large"), waits("small")], plan(3, a=2, large=2, small=1), inside, RULES)
    assert not found.starts
    assert found.reasons["small.1"] == "waits for room: 'large' came before"


def test_on_a_device_the_first_does_not_hope_for_another_may_start() -> None:
    inside = [tenant("a", 0, 2, in_flight=1), tenant("b", 1, 1)]
    needs = plan(2, 2, a=2, b=1, large=2, small=1)
    found = outcome([waits("large"), waits("small")], needs, inside, RULES)
    assert found.leaves == {"b": "large"}  # the cheapest, so device 1 is what it hopes for
    pinned = [tenant("a", 0, 2, in_flight=1), tenant("b", 1, 1, pinned=True)]
    found = outcome([waits("large"), waits("small")], needs, pinned, RULES)
    assert starts(found) == {"small.1": (1,)}


def test_nobody_leaves_for_one_that_was_not_asked_for() -> None:
    found = outcome([waits("b", evicts=False)], plan(1, a=1, b=1), [tenant("a")], RULES)
    assert (found.leaves, found.starts) == ({}, {})
    assert found.parked == {
        "b.1": "'b' does not fit beside what runs; it starts when it is asked for."
    }


def test_what_never_fits_is_told_so() -> None:
    assert outcome([waits("huge")], plan(1), (), RULES).never == {"huge.1": "'huge' is too large."}


def test_one_in_use_stays_and_its_turn_comes_only_after_some_patience() -> None:
    inside = [tenant("a", in_flight=1, idle=0)]
    found = outcome([waits("b", 29)], plan(1, a=1, b=1), inside, RULES)
    assert not found.leaves
    assert found.again == 1
    assert outcome([waits("b", 30)], plan(1, a=1, b=1), inside, RULES).leaves == {"a": "b"}


def test_patience_does_not_cut_a_minimum_stay_short() -> None:
    inside = [tenant("a", in_flight=1, ready_for=5.0)]
    found = outcome([waits("b", 99)], plan(1, a=1, b=1), inside, RULES)
    assert (found.leaves, found.again) == ({}, 15)


def test_the_minimum_stay_is_waited_for_exactly() -> None:
    found = outcome([waits("b")], plan(1, a=1, b=1), [tenant("a", ready_for=12.0)], RULES)
    assert (found.leaves, found.again) == ({}, 8)
    assert found.reasons["b.1"].startswith("waits for room: ")


def test_gateways_are_heard_before_anybody_leaves() -> None:
    found = outcome([waits("b", 0.2, heard=False)], plan(1, a=1, b=1), [tenant("a")], RULES)
    assert (found.leaves, found.again) == ({}, 0.8)
    found = outcome([waits("b", 1, heard=False)], plan(1, a=1, b=1), [tenant("a")], RULES)
    assert found.leaves == {"a": "b"}


NAMES = ("a", "b", "c", "d")


@given(
    st.lists(st.sampled_from(NAMES), unique=True, max_size=4),
    st.data(),
    st.booleans(),
)
def test_whatever_waits_no_device_is_overfull_and_nobody_in_use_leaves(
    waiting: list[str], data: st.DataObject, serial: bool
) -> None:
    sizes = {name: data.draw(st.integers(1, 3), name) for name in NAMES}
    house = plan(4, 3, **sizes)
    inside = []
    free = {0: 4, 1: 3}
    for name in NAMES:
        device = data.draw(st.sampled_from([None, 0, 1]), f"where {name} is")
        if name in waiting or device is None or free[device] < sizes[name]:
            continue
        free[device] -= sizes[name]
        in_flight, pinned = data.draw(st.integers(0, 1)), data.draw(st.booleans())
        inside.append(tenant(name, device, sizes[name], in_flight=in_flight, pinned=pinned))
    rules = SERIAL if serial else RULES
    found = outcome([waits(name) for name in waiting], house, inside, rules)
    for name, start in ((replica[:-2], start) for replica, start in found.starts.items()):
        for device in start.devices:
            free[device] -= sizes[name]
    assert min(free.values()) >= 0
    assert not {t.assistant for t in inside if t.in_flight or t.pinned} & set(found.leaves)
    told = (found.starts, found.reasons, found.parked, found.never)
    assert sorted(replica for part in told for replica in part) == sorted(f"{n}.1" for n in waiting)
