"""The state of the house: from the gateway's numbers to a table and three charts."""

from __future__ import annotations

import asyncio
import json

import pytest
from playwright.async_api import expect

from serve.ui.status.chart import Point, Span, chart
from serve.ui.status.pace import WINDOW_SECONDS, paces, total
from serve.ui.status.reading import Count, Reading, read
from serve.ui.status.watch import Watch
from tests.ui.conftest import free_port, serving
from tests.ui.gateway_stub import GatewayStub
from tests.ui.visitor import Visitor

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
hanlin_time_to_first_token_seconds_sum{assistant="wishes",surface="chat"} 2.0
# TYPE hanlin_tokens_total counter
hanlin_tokens_total{assistant="wishes",direction="in",surface="chat"} 70.0
hanlin_tokens_total{assistant="wishes",direction="out",surface="chat"} 300.0
# TYPE hanlin_in_flight gauge
hanlin_in_flight{assistant="wishes"} 3.0
# TYPE hanlin_queue_length gauge
hanlin_queue_length{assistant="wishes"} 5.0
# TYPE hanlin_engine_state gauge
hanlin_engine_state{assistant="wishes",state="ready"} 1.0
hanlin_engine_state{assistant="wishes",state="starting"} 1.0
# TYPE hanlin_breaker_open gauge
hanlin_breaker_open{assistant="wishes",replica="0"} 1.0
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1000.0
"""


def test_the_gateways_numbers_are_read_over_all_surfaces() -> None:
    reading = read(EXPOSITION, 100)
    assert reading.counts == {"wishes": Count(300, 8, 2.0, 3, 4)}
    standing = reading.standings["wishes"]
    assert (standing.in_flight, standing.queue, standing.cut_off) == (3, 5, 1)
    assert standing.replicas == {"ready": 1, "starting": 1}


def test_what_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError, match=r".+"):
        read("<html>502</html>{", 0)


def readings(*counts: Count) -> list[Reading]:
    return [Reading(5.0 * step, {"a": count}) for step, count in enumerate(counts)]


def test_pace_is_growth_over_the_window() -> None:
    way = paces(readings(Count(0), Count(50, 2, 1.0), Count(100, 4, 1.5), Count(100, 4, 1.5)), "a")
    assert [round(pace.tokens, 2) for pace in way] == [10, 10, 6.67]
    assert [pace.first for pace in way] == [0.5, 0.375, 0.375]
    still = readings(*([Count(100, 4, 1.5)] * 6))
    assert paces(still, "a")[-1].first is None
    assert all(pace.tokens == 0 for pace in paces(still, "a"))
    grown = readings(*(Count(tokens=10 * step) for step in range(9)))
    assert [pace.tokens for pace in paces(grown, "a")] == [2] * 8
    late = readings(*([Count()] * 5), Count(tokens=150))
    assert paces(late, "a")[-1].tokens == 150 / WINDOW_SECONDS


def test_failures_and_refusals_are_a_minute() -> None:
    (pace,) = paces(readings(Count(), Count(failed=1, refused=2)), "a")
    assert (pace.failed, pace.refused) == (12, 24)


def test_a_gateway_that_began_anew_is_no_step_back() -> None:
    begun = readings(Count(1000, 50, 9.0, 3), Count(20, 2, 0.4, 1))
    (pace,) = paces(begun, "a")
    assert (pace.tokens, pace.first) == (4, 0.2)
    assert total(begun, "a") == Count(20, 2, 0.4, 1)
    assert paces(readings(Count()), "a") == []
    assert paces(begun, "nobody")[0].tokens == 0


def test_a_chart_has_a_line_for_each_and_whole_minutes() -> None:
    span = Span(90, 400)
    made = json.loads(
        chart([Point(100, 2, "甲")], span, {"甲": "#123456"}, named="词元/秒", time="时间").plot
    )
    assert made["data"]["values"] == [{"at": 100_000, "value": 2, "name": "甲"}]
    assert made["encoding"]["x"]["axis"]["values"] == [t * 1000 for t in (120, 180, 240, 300, 360)]
    assert made["encoding"]["color"]["scale"] == {"domain": ["甲"], "range": ["#123456"]}
    empty = json.loads(chart([], span, {}, named="n", time="t").plot)
    assert empty["encoding"]["y"]["scale"] == {"domain": [0, 1]}


async def test_the_watch_looks_again_and_again_and_says_when_it_is_blind() -> None:
    stub, port = GatewayStub(exposition=EXPOSITION), free_port()
    watch = Watch(f"http://127.0.0.1:{port}", key="k", each=0.02)
    assert watch.blind
    looking = asyncio.create_task(watch.keep_looking())
    async with serving(stub, port):
        async with asyncio.timeout(10):
            while len(watch.readings) < 3:  # noqa: ASYNC110 - only real time brings more
                await asyncio.sleep(0.01)
        assert not watch.blind
        assert stub.keys == {"Bearer k"}
    async with asyncio.timeout(10):
        while not watch.blind:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len(watch.readings) >= 3  # what was seen is still shown
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_the_board_is_live(anyone: Visitor, gateway: GatewayStub) -> None:
    gateway.exposition = EXPOSITION
    page = anyone.page
    zh = (page.viewport_size or {})["width"] == 1280
    await anyone.go("?view=status")
    row = page.locator(".hanlin-table tbody tr", has_text="天机" if zh else "Tianji")
    await expect(row).to_contain_text("1 可用 · 1 载入中" if zh else "1 ready · 1 loading")
    await expect(page.locator(".hanlin-chart svg.marks")).to_have_count(3)
    await expect(page.locator(".hanlin-trouble")).to_have_count(0)
    assert await page.evaluate("document.documentElement.scrollWidth") <= (1280 if zh else 390)
    gateway.exposition = EXPOSITION.replace("} 300.0", "} 900.0").replace("} 2.0", "} 5.0")
    await expect(row.locator("td").nth(4)).not_to_have_text("0.0")
    await expect(row.locator("td").nth(6)).not_to_have_text("0 · 0")
    gateway.exposition = "}{ no exposition"
    await expect(page.locator("#status .hanlin-trouble")).to_contain_text("/metrics")
