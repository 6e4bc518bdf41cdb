"""What `up` makes of the engine host's list."""

from __future__ import annotations

from hanlin.polling import Standing, one_each


def standing(name: str, state: str) -> Standing:
    return Standing(name, state, None, ())


def test_of_two_engines_of_one_assistant_the_one_that_serves_counts() -> None:
    ready, other = standing("a", "ready"), standing("b", "stopped")
    for beside in (standing("a", "starting"), standing("a", "draining"), standing("a", "failed")):
        assert one_each([ready, beside, other]) == (ready, other)
        assert one_each([beside, ready, other]) == (ready, other)
