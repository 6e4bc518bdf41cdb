"""What follows from what happens to an engine, by values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve.engines import course as courses
from serve.engines.course import Course, Policy
from serve.state import State

POLICY = Policy(first_wait=1, longest_wait=60, loop=3, stable=60, misses=3)


def ends(course: Course, times: int, served: float = 0) -> Course:
    for _ in range(times):
        course = courses.ended(course, "why", served=served, policy=POLICY)
    return course


def test_asked_starts_only_what_is_stopped() -> None:
    assert courses.asked(Course()).state is State.starting
    failed = Course(State.failed, endings=5, reason="why")
    assert courses.asked(failed) == failed


def test_first_token_makes_it_ready_and_forgets_the_reason() -> None:
    ready = courses.generated(Course(State.starting, endings=2, misses=1, reason="why"))
    assert ready == Course(State.ready, endings=2)


def test_an_ending_is_followed_by_another_start() -> None:
    assert ends(Course(State.ready), 1) == Course(State.starting, 1, 1, reason="why")


def test_the_third_ending_in_a_row_is_a_crash_loop() -> None:
    assert ends(Course(State.starting), 2).state is State.starting
    assert ends(Course(State.starting), 3).state is State.failed


def test_a_stable_time_in_service_makes_an_ending_the_first_again() -> None:
    assert courses.ended(ends(Course(), 7), "why", served=60, policy=POLICY).endings == 1
    assert courses.ended(ends(Course(), 7), "why", served=59, policy=POLICY).endings == 8


def test_it_hangs_after_so_many_misses_in_a_row() -> None:
    course = Course(State.ready)
    for alive in (False, False, True, False, False):
        course = courses.probed(course, alive=alive)
        assert not courses.hangs(course, POLICY)
    assert courses.hangs(courses.probed(course, alive=False), POLICY)


def test_a_missing_workspace_is_no_crash() -> None:
    course = courses.unstartable(Course(State.starting), "run hanlin convert wishes.")
    assert (course.state, course.endings, course.restarts) == (State.failed, 0, 0)
    assert courses.wait_before(course, POLICY, 0.5) == POLICY.look_again


def test_only_what_is_ready_drains() -> None:
    assert courses.leaving(Course(State.ready)).state is State.draining
    for state in (State.starting, State.failed, State.stopped):
        assert courses.leaving(Course(state)).state is state


def test_the_wait_doubles_up_to_the_longest() -> None:
    waits = [courses.wait_before(Course(endings=n), POLICY, 1.0) for n in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_wait_is_spread_over_its_upper_half(endings: int, draw: float) -> None:
    whole = courses.wait_before(Course(endings=endings), POLICY, 1.0)
    assert whole / 2 <= courses.wait_before(Course(endings=endings), POLICY, draw) <= whole


def test_a_fault_fails_at_once_and_is_tried_again_only_slowly() -> None:
    faulty = courses.faulted(Course(State.starting), "why", POLICY)
    assert (faulty.state, faulty.restarts) == (State.failed, 1)
    assert courses.wait_before(faulty, POLICY, 0.0) == 30
    assert courses.wait_before(courses.generated(faulty), POLICY, 0.999) < 5


def test_what_waits_says_why_but_what_has_failed_keeps_its_reason() -> None:
    waits = courses.waits(Course(State.starting), "room")
    assert waits.reason == "room"
    assert courses.seated(waits) == Course(State.starting)
    killed = Course(State.starting, endings=1, reason="killed")
    assert courses.seated(killed) == killed  # until it is ready
    failed = Course(State.failed, reason="why")
    assert courses.waits(failed, "room") == failed
    assert courses.parked(failed, "room") == failed
    assert courses.parked(waits, "room") == Course(State.stopped, reason="room")


def test_what_was_told_to_go_is_stopped_and_begins_anew() -> None:
    ready = Course(State.ready, endings=2, restarts=5)
    assert courses.left(courses.leaving(ready), "why") == Course(restarts=5, reason="why")


def test_what_is_mended_is_forgiven() -> None:
    mended = courses.forgiven(Course(State.failed, endings=7, fault=True, reason="why"))
    assert mended == Course(State.failed, reason="why")
    assert courses.wait_before(mended, POLICY, 0.5) == POLICY.look_again
