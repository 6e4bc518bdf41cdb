"""From the text of /metrics to how fast things go: for `hanlin status` and the page alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serve.pace import Pace, Readings, began_anew, pace, paces
from serve.reading import Counted, Reading, read

EXPOSITION = """# HELP hanlin_requests_total Requests, by class of status.
# TYPE hanlin_requests_total counter
hanlin_requests_total{assistant="wishes",status="2xx",surface="chat"} 9.0
hanlin_requests_total{assistant="wishes",status="5xx",surface="chat"} 2.0
hanlin_requests_total{assistant="wishes",status="5xx",surface="messages"} 1.0
# TYPE hanlin_rejections_total counter
hanlin_rejections_total{assistant="wishes",reason="queue",surface="chat"} 4.0
# TYPE hanlin_time_to_first_token_seconds histogram
hanlin_time_to_first_token_seconds_bucket{assistant="wishes",le="+Inf",surface="chat"} 8.0
hanlin_time_to_first_token_seconds_count{assistant="wishes",surface="chat"} 8.0
hanlin_time_to_first_token_seconds_sum{assistant="wishes",surface="chat"} 2.5
# TYPE hanlin_tokens_total counter
hanlin_tokens_total{assistant="wishes",direction="in",surface="chat"} 70.0
hanlin_tokens_total{assistant="wishes",direction="out",surface="chat"} 300.0
hanlin_tokens_total{assistant="wishes",direction="out",surface="messages"} 20.0
# TYPE hanlin_tokens_under_way gauge
hanlin_tokens_under_way{assistant="wishes"} 11.0
# TYPE hanlin_in_flight gauge
hanlin_in_flight{assistant="wishes"} 3.0
# TYPE hanlin_queue_length gauge
hanlin_queue_length{assistant="wishes"} 5.0
# TYPE hanlin_engine_state gauge
hanlin_engine_state{assistant="wishes",state="ready"} 1.0
hanlin_engine_state{assistant="wishes",state="starting"} 1.0
hanlin_engine_state{assistant="wishes",state="failed"} 0.0
# TYPE hanlin_breaker_open gauge
hanlin_breaker_open{assistant="wishes",replica="0"} 1.0
hanlin_breaker_open{assistant="wishes",replica="1"} 1.0
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1000.0
"""


def test_the_gateways_numbers_are_read_over_all_surfaces() -> None:
    reading = read(EXPOSITION, 100)
    assert reading == Reading(
        100,
        {
            "wishes": Counted(
                tokens_out=320,
                under_way=11,
                first_tokens=8,
                first_token_seconds=2.5,
                failed=3,
                refused=4,
                in_flight=3,
                queue=5,
                cut_off=2,
                replicas={"ready": 1, "starting": 1},
            )
        },
    )
    assert reading.of("wishes").tokens == 331
    assert reading.of("nobody") == Counted()


@pytest.mark.parametrize(
    "text",
    ["<html>502</html>{", "}{", 'hanlin_in_flight{assistant="a"} +Inf\n', "{, =TYPE "],
)
def test_what_is_no_exposition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read(text, 0)


def readings(*counts: Counted, each: float = 5) -> list[Reading]:
    """One after the other, as a gateway tells them."""
    kept = Readings(3600)
    for step, count in enumerate(counts):
        kept.take(Reading(each * (step + 1), {"a": count}))
    return list(kept.all)


def counted(tokens: int = 0, first_tokens: int = 0, seconds: float = 0, **more: Any) -> Counted:
    return Counted(
        tokens_out=tokens, first_tokens=first_tokens, first_token_seconds=seconds, **more
    )


def test_pace_is_growth_over_the_window() -> None:
    way = paces(
        readings(counted(), counted(50, 2, 1), counted(100, 4, 1.5), counted(100, 4, 1.5)),
        "a",
        seconds=15,
    )
    assert [round(pace.tokens_per_second, 2) for pace in way] == [10, 10, 6.67]
    assert [pace.first_token for pace in way] == [0.5, 0.375, 0.375]
    still = paces(readings(*([counted(100, 4, 1.5)] * 6)), "a", seconds=15)
    assert still[-1].first_token is None
    assert all(pace.tokens_per_second == 0 for pace in still)
    grown = readings(*(counted(10 * step) for step in range(9)))
    assert [pace.tokens_per_second for pace in paces(grown, "a", seconds=15)] == [2] * 8
    late = readings(*([counted()] * 5), counted(150))
    assert paces(late, "a", seconds=15)[-1].tokens_per_second == 10
    assert paces(late, "nobody", seconds=15)[0].tokens_per_second == 0


def test_a_stream_counts_as_it_comes_and_once() -> None:
    """While it runs, when it ends, and when its engine says at the end that it was less."""
    running = [counted(under_way=tokens) for tokens in (0, 20, 40)]
    way = paces(readings(*running, counted(60), counted(60)), "a", seconds=5)
    assert [pace.tokens_per_second for pace in way] == [4, 4, 4, 0]
    fewer = readings(*running, counted(39), counted(39))
    assert [pace.tokens for pace in paces(fewer, "a", seconds=5)] == [20, 20, 0, 0]
    whole = pace(fewer, "a")
    assert whole is not None
    assert whole.tokens == 39


def test_failures_and_refusals_are_a_minute() -> None:
    (found,) = paces(readings(counted(), counted(failed=1, refused=2)), "a", seconds=15)
    assert (found.failed, found.refused, found.errors_per_minute) == (1, 2, 36)


def test_a_gateway_that_began_anew_is_no_step_back() -> None:
    """Whatever it is that shows it: what others have counted by then is all of it new."""
    before = counted(1000, 50, 9.0, failed=3, under_way=70)
    after = counted(20, 2, 0.5, failed=1, under_way=5)
    begun = readings(before, after, counted(30, 2, 0.5, failed=1))
    assert pace(begun, "a") == Pace(15, 10, 30, 2, 0.5, 1, 0)
    for field in ("tokens_out", "first_tokens", "failed", "refused"):
        was, less = Counted(**{field: 2}), Counted(**{field: 1})
        both = Reading(1, {"a": was, "b": counted(7)}), Reading(2, {"a": less, "b": counted(9)})
        assert began_anew(*both)
        kept = Readings(60)
        for reading in both:
            kept.take(reading)
        found = pace(kept.all, "b")
        assert found is not None
        assert found.tokens == 9
    assert began_anew(Reading(1, {"a": counted(1)}), Reading(2, {}))
    for fine in (counted(under_way=3, in_flight=1), counted(seconds=1e-9)):
        assert not began_anew(Reading(1, {"a": fine}), Reading(2, {"a": counted()}))


def test_nothing_is_told_over_a_time_without_readings() -> None:
    early, late = [Reading(at, {}) for at in (0, 5)], [Reading(at, {}) for at in (300, 305)]
    assert [found.at for found in paces([*early, *late], "a", seconds=15)] == [5, 305]
    assert pace(early[:1], "a") is None
    assert pace([], "a") is None


def test_readings_are_kept_as_long_as_they_are_needed() -> None:
    kept = Readings(60)
    assert (kept.last, kept.seconds) == (None, None)
    for at in (0, 30, 60):
        kept.take(Reading(at, {"a": counted(at * 10)}))
    assert kept.seconds == 60
    kept.take(Reading(90, {"a": counted(300)}))
    assert [reading.at for reading in kept.all] == [30, 60, 90]
    kept.take(Reading(89, {}))  # the clock was set back
    assert [(reading.at, reading.anew) for reading in kept.all] == [(89, False)]
    kept.take(replace(kept.all[0], at=1000.0))
    assert kept.seconds == 911
