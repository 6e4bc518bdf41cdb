"""The choice of a replica."""

from __future__ import annotations

from serve.gateway.upstream.replicas import Listed, Replica, Replicas
from serve.gateway.upstream.router import choose
from serve.state import State
from tests.gateway.conftest import declare, house_of


def test_the_least_busy_ready_one_is_chosen() -> None:
    starting = Replica("a", State.starting)
    busy, free = Replica("b", in_flight=3), Replica("c", in_flight=1)
    assert choose([starting, busy, free], avoid=(), now=0) is free
    assert choose([starting, busy, free], avoid=[free], now=0) is busy
    assert choose([starting], avoid=(), now=0) is None


def test_one_that_rests_comes_last_but_still_comes() -> None:
    resting, busy = Replica("a"), Replica("b", in_flight=9)
    resting.breaker.failed(3)  # for 2 s
    assert choose([resting, busy], avoid=(), now=1) is busy
    assert choose([resting, busy], avoid=[busy], now=1) is resting
    assert choose([resting, busy], avoid=(), now=6) is resting


def test_one_whose_clients_left_without_an_answer_comes_after_its_equals() -> None:
    silent, busy = Replica("a", unanswered=2), Replica("b", in_flight=1, asked=9)
    assert choose([silent, busy], avoid=(), now=0) is silent
    busy.in_flight = 0
    assert choose([silent, busy], avoid=(), now=0) is busy


def test_between_equals_the_one_asked_less_often() -> None:
    often, seldom = Replica("a", asked=5), Replica("b", asked=4)
    assert choose([often, seldom], avoid=(), now=0) is seldom


def test_a_replica_that_stays_keeps_its_count() -> None:
    replicas = Replicas(house_of(declare()))
    replicas.take_over([Listed("wishes", "http://a", State.ready, None)])
    replicas.of("wishes")[0].in_flight = 2
    replicas.take_over(
        [
            Listed("wishes", "http://b", State.starting, None),
            Listed("wishes", "http://a", State.draining, "swapped out"),
            Listed("unknown", "http://c", State.ready, None),
        ]
    )
    assert [(r.url, r.in_flight) for r in replicas.of("wishes")] == [
        ("http://b", 0),
        ("http://a", 2),
    ]
    assert replicas.state("wishes") is State.starting


def test_declared_upstreams_are_ready_and_are_no_engine_host_s_business() -> None:
    replicas = Replicas(house_of(declare(upstreams=["http://gpu:23333/v1/"])))
    replicas.take_over([Listed("wishes", "http://a", State.failed, None)])
    assert [r.url for r in replicas.of("wishes")] == ["http://gpu:23333"]
    assert replicas.state("wishes") is State.ready
