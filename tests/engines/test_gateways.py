"""What is known of gateways from what they last said."""

from __future__ import annotations

from serve.engines.gateways import Gateways, Told


def heard(*told: tuple[Told, float]) -> Gateways:
    gateways = Gateways()
    for what, at in told:
        gateways.hear(what, at)
    return gateways


def test_nobody_is_nobody() -> None:
    gateways = Gateways()
    assert gateways.all_know(99, 0)
    assert gateways.busy("a", 0) == gateways.in_flight("a.1", "a", 0) == 0
    assert gateways.idle("a", 0) is None


def test_all_gateways_count_together() -> None:
    one = Told(gateway="g1", knows=5, busy={"a": 2}, in_flight={"a.1": 1})
    two = Told(gateway="g2", knows=4, busy={"a": 1}, in_flight={"a.1": 1, "a.2": 3})
    gateways = heard((one, 0), (two, 1))
    assert gateways.busy("a", 2) == 3
    assert gateways.in_flight("a.1", "a", 2) == 2
    assert gateways.in_flight("a.2", "a", 2) == 3
    assert gateways.all_know(4, 2)
    assert not gateways.all_know(5, 2)


def test_what_waits_for_a_replica_is_not_in_flight_on_it() -> None:
    gateways = heard((Told(gateway="g", knows=1, busy={"a": 7}, in_flight={}), 0))
    assert gateways.in_flight("a.1", "a", 1) == 0


def test_a_gateway_that_does_not_count_by_replica_counts_by_assistant() -> None:
    gateways = heard((Told(gateway="g", knows=1, busy={"a": 7}), 0))
    assert gateways.in_flight("a.1", "a", 1) == 7


def test_a_silent_gateway_is_forgotten() -> None:
    gateways = heard((Told(gateway="g", knows=1, busy={"a": 1}), 0))
    assert not gateways.all_know(2, 39)
    assert gateways.busy("a", 39) == 1
    assert gateways.all_know(2, 40)
    assert gateways.busy("a", 40) == 0


def test_one_that_waits_for_an_answer_is_not_silent() -> None:
    gateways = heard((Told(gateway="g", knows=1, busy={"a": 1}), 0))
    gateways.still_there("g", 25)
    assert gateways.busy("a", 50) == 1


def test_one_that_closed_its_connection_is_gone_unless_it_has_asked_anew() -> None:
    before = Told(gateway="g", knows=1, busy={"a": 1}, in_flight={"a.1": 1})
    gateways = heard((before, 0))
    gateways.hear(again := Told(gateway="g", knows=2, busy={"a": 1}), 1)
    gateways.lose(before)
    assert gateways.busy("a", 2) == 1
    gateways.lose(again)
    assert gateways.busy("a", 2) == 0
    assert gateways.all_know(3, 2)


def test_what_is_said_with_a_start_is_no_acknowledgement() -> None:
    gateways = heard((Told(gateway="g", knows=3), 0), (Told(gateway="g", busy={"a": 1}), 1))
    assert gateways.busy("a", 2) == 1
    assert gateways.all_know(3, 2)
    assert not gateways.all_know(4, 2)
    assert not heard((Told(gateway="new"), 0)).all_know(1, 0)


def test_idle_grows_and_is_that_of_the_last_who_used_it() -> None:
    gateways = heard(
        (Told(gateway="g1", idle={"a": 100}), 10), (Told(gateway="g2", idle={"a": 5}), 20)
    )
    assert gateways.idle("a", 30) == 15
    gateways.hear(Told(gateway="g1", idle={"a": 110}), 30)
    assert gateways.idle("a", 30) == 15
    gateways.hear(Told(gateway="g1", busy={"a": 1}), 31)
    assert gateways.idle("a", 31) == 0
