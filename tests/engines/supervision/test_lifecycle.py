"""What follows from what happens to an engine, by values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.engines.policy import Policy
from serve.engines.supervision import lifecycle
from serve.engines.supervision.lifecycle import Status
from serve.state import State

POLICY = Policy(first_wait=1, longest_wait=60, loop=3, stable=60, misses=3)


def ends(status: Status, times: int, served: float = 0) -> Status:
    for _ in range(times):
        status = lifecycle.ended(status, "why", served=served, policy=POLICY)
    return status


def test_asked_starts_only_what_is_stopped() -> None:
    assert lifecycle.asked(Status()).state is State.starting
    failed = Status(State.failed, endings=5, reason="why")
    assert lifecycle.asked(failed) == failed


def test_first_token_makes_it_ready_and_forgets_the_reason() -> None:
    ready = lifecycle.generated(Status(State.starting, endings=2, misses=1, reason="why"))
    assert ready == Status(State.ready, endings=2)


def test_an_ending_is_followed_by_another_start() -> None:
    assert ends(Status(State.ready), 1) == Status(State.starting, 1, 1, reason="why")


def test_the_third_ending_in_a_row_is_a_crash_loop() -> None:
    assert ends(Status(State.starting), 2).state is State.starting
    assert ends(Status(State.starting), 3).state is State.failed


def test_a_crash_loop_tells_the_last_line_to_whoever_asks() -> None:
    def ended(status: Status) -> Status:
        return lifecycle.ended(status, "It fell.", served=0, policy=POLICY, last=f"  {'x' * 300}\n")

    first = ended(Status(State.starting))
    assert first.reason == "It fell."
    assert ended(ended(first)).reason == f"It fell; its last line: {'x' * 200}"


def test_a_stable_time_in_service_makes_an_ending_the_first_again() -> None:
    assert lifecycle.ended(ends(Status(), 7), "why", served=60, policy=POLICY).endings == 1
    assert lifecycle.ended(ends(Status(), 7), "why", served=59, policy=POLICY).endings == 8


def test_it_hangs_after_so_many_misses_in_a_row() -> None:
    status = Status(State.ready)
    for alive in (False, False, True, False, False):
        status = lifecycle.probed(status, alive=alive)
        assert not lifecycle.hangs(status, POLICY)
    assert lifecycle.hangs(lifecycle.probed(status, alive=False), POLICY)


def test_a_missing_workspace_is_no_crash() -> None:
    status = lifecycle.unstartable(Status(State.starting), "run hanlin convert wishes.")
    assert (status.state, status.endings, status.restarts) == (State.failed, 0, 0)
    assert lifecycle.wait_before(status, POLICY, 0.5) == POLICY.look_again


def test_only_what_is_ready_drains() -> None:
    assert lifecycle.leaving(Status(State.ready)).state is State.draining
    for state in (State.starting, State.failed, State.stopped):
        assert lifecycle.leaving(Status(state)).state is state


def test_the_wait_doubles_up_to_the_longest() -> None:
    waits = [lifecycle.wait_before(Status(endings=n), POLICY, 1.0) for n in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_wait_is_spread_over_its_upper_half(endings: int, draw: float) -> None:
    whole = lifecycle.wait_before(Status(endings=endings), POLICY, 1.0)
    assert whole / 2 <= lifecycle.wait_before(Status(endings=endings), POLICY, draw) <= whole


def test_a_fault_fails_at_once_and_is_tried_again_only_slowly() -> None:
    faulty = lifecycle.faulted(Status(State.starting), "why", POLICY)
    assert (faulty.state, faulty.restarts) == (State.failed, 1)
    assert lifecycle.wait_before(faulty, POLICY, 0.0) == 30
    assert lifecycle.wait_before(lifecycle.generated(faulty), POLICY, 0.999) < 5


def test_what_waits_says_why_but_what_has_failed_keeps_its_reason() -> None:
    waits = lifecycle.waits(Status(State.starting), "room")
    assert waits.reason == "room"
    assert lifecycle.placed(waits) == Status(State.starting)
    killed = Status(State.starting, endings=1, reason="killed")
    assert lifecycle.placed(killed) == killed  # until it is ready
    failed = Status(State.failed, reason="why")
    assert lifecycle.waits(failed, "room") == failed
    assert lifecycle.parked(failed, "room") == failed
    assert lifecycle.parked(waits, "room") == Status(State.stopped, reason="room")


def test_what_was_told_to_go_is_stopped_and_begins_anew() -> None:
    ready = Status(State.ready, endings=2, restarts=5)
    assert lifecycle.left(lifecycle.leaving(ready), "why") == Status(restarts=5, reason="why")


def test_what_is_mended_is_forgiven() -> None:
    mended = lifecycle.forgiven(Status(State.failed, endings=7, fault=True, reason="why"))
    assert mended == Status(State.failed, reason="why")
    assert lifecycle.wait_before(mended, POLICY, 0.5) == POLICY.look_again


def test_a_log_is_told_of_states_and_restarts_but_not_of_each_reason() -> None:
    starting = Status(State.starting)
    assert lifecycle.news(Status(), starting) == "is starting"
    assert (
        lifecycle.news(starting, lifecycle.waits(starting, "waits for room: a is in use")) is None
    )
    ended = lifecycle.ended(starting, "It was killed.", served=0, policy=POLICY)
    assert ended.state is starting.state
    assert lifecycle.news(starting, ended) == "is starting: It was killed."
    failed = lifecycle.unstartable(starting, "There is no workspace.")
    assert lifecycle.news(starting, failed) == "has failed: There is no workspace."
    assert lifecycle.news(failed, lifecycle.unstartable(failed, "The GPU is held.")) is None
