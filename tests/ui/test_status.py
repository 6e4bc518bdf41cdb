"""The state of the house: from the gateway's numbers to a table and three charts."""

from __future__ import annotations

import asyncio
import json
import re
from html import unescape
from typing import Any

import gradio as gr
import pytest
from playwright.async_api import expect

from serve.pace import Readings, paces
from serve.reading import Counted, Reading
from serve.ui.house import GONE, LOCKED, Assistant, Glance
from serve.ui.status.board import curve, draw, lay_board
from serve.ui.status.chart import Point, Span, chart
from serve.ui.status.table import Line, table
from serve.ui.status.watch import Watch
from serve.ui.texts import texts
from tests.ports import free_port
from tests.ui.conftest import serving
from tests.ui.gateway_stub import GatewayStub, assistant
from tests.ui.visitor import Visitor


def told(*, out: int = 0, first: int = 0, failed: int = 0) -> str:
    """What a gateway tells of one assistant with a ready and a loading engine."""
    return f"""# TYPE hanlin_requests_total counter
hanlin_requests_total{{assistant="wishes",status="5xx",surface="chat"}} {failed}
# TYPE hanlin_time_to_first_token_seconds histogram
hanlin_time_to_first_token_seconds_count{{assistant="wishes",surface="chat"}} {first}
hanlin_time_to_first_token_seconds_sum{{assistant="wishes",surface="chat"}} {first / 4}
# TYPE hanlin_tokens_total counter
hanlin_tokens_total{{assistant="wishes",direction="out",surface="chat"}} {out}
# TYPE hanlin_in_flight gauge
hanlin_in_flight{{assistant="wishes"}} 3
# TYPE hanlin_engine_state gauge
hanlin_engine_state{{assistant="wishes",state="starting"}} 1
hanlin_engine_state{{assistant="wishes",state="ready"}} 1
"""


def line_of(*counts: tuple[float, Counted], **more: Any) -> tuple[Line, list[Reading]]:
    kept = Readings(3600)
    for at, count in counts:
        kept.take(Reading(at, {"a": count}))
    known = Assistant.model_validate(assistant("a", "甲", "A", **more))
    return Line(known, "A<b>", "#123456", paces(kept.all, "a", seconds=15)), list(kept.all)


def cells(text: str) -> list[str]:
    """What stands in the table, cell by cell, under its head."""
    return [
        unescape(re.sub("<[^>]+>", "", cell))
        for cell in re.split("</t[hd]>", text.split("<tbody>")[1])
        if "<t" in cell
    ]


def test_a_chart_has_a_line_for_each_and_whole_minutes() -> None:
    span = Span(90, 400)
    made = json.loads(
        chart([Point(100, 2, "甲")], span, {"甲": "#123456"}, named="词元/秒", time="时间").plot
    )
    assert made["data"]["values"] == [{"at": 100_000, "value": 2, "name": "甲"}]
    assert made["encoding"]["x"]["axis"]["values"] == [t * 1000 for t in (120, 180, 240, 300, 360)]
    assert made["encoding"]["color"]["scale"] == {"domain": ["甲"], "range": ["#123456"]}
    empty = json.loads(chart([Point(9, None, "甲")], span, {}, named="n", time="t").plot)
    assert empty["encoding"]["y"]["scale"] == {"domain": [0, 1]}
    assert empty["data"]["values"][0]["value"] is None


def test_a_line_has_gaps_where_nothing_was_asked_or_read() -> None:
    first, more = Counted(), Counted(first_tokens=1, first_token_seconds=0.5)
    line, _ = line_of(*((at, first) for at in (0, 5)), *((at, more) for at in (10, 15, 20, 25, 30)))
    found = [(point.at, point.value) for point in curve(line, lambda pace: pace.first_token, 17.5)]
    assert found == [(5, None), (10, 0.5), (15, 0.5), (20, 0.5), (25, None), (30, None)]
    blind, _ = line_of(*((at, first) for at in (0, 5, 10, 100, 105)))
    found = [
        (point.at, point.value) for point in curve(blind, lambda pace: pace.tokens_per_second, 17.5)
    ]
    assert found == [(5, 0), (10, 0), (10, None), (105, 0)]


def test_the_table_tells_how_an_assistant_stands_and_does() -> None:
    end = Counted(
        tokens_out=40,
        under_way=10,
        first_tokens=2,
        first_token_seconds=0.5,
        failed=1,
        refused=2,
        in_flight=3,
        queue=4,
        replicas={"draining": 1, "starting": 1, "ready": 2},
    )
    line, readings = line_of((0, Counted()), (10, end), reason="x <b> & y")
    shown = table([line], readings, "en", known=True)
    head = ["A<b>", "ready", "2 ready · 1 loading · 1 stopping", "3", "4", "5.0", "0.25 s", "1 · 2"]
    assert cells(shown) == [*head, texts("en").why["ready"] + "x <b> & y"]
    unknown = [*head[:2], *["–"] * 5, "1 · 2", texts("en").why["ready"] + "x <b> & y"]
    assert cells(table([line], readings, "en", known=False)) == unknown
    assert table([], readings, "en", known=True) == ""


def test_the_table_tells_what_is_wrong() -> None:
    one = Counted(replicas={"ready": 1})
    fine, readings = line_of((0, one), (5, one))
    assert cells(table([fine], readings, "en", known=True))[2:] == [
        "1", "0", "0", "0.0", "–", "0 · 0",
    ]  # fmt: skip
    for state, reason in (("failed", "The engine of 'a' ended."), ("ready", "Its update failed.")):
        line, readings = line_of((0, Counted()), (5, Counted()), state=state, reason=reason)
        told = cells(table([line], readings, "zh", known=True))[-1]
        assert told == texts("zh").why[state] + reason
    rests, readings = line_of((0, one), (5, Counted(replicas={"ready": 1}, cut_off=1)))
    assert "接连失败" in cells(table([rests], readings, "zh", known=True))[-1]


async def test_what_is_missing_is_said_why() -> None:
    with gr.Blocks():
        board = lay_board(5)
    watch, words = Watch("http://127.0.0.1:9", key="k", each=5), texts("en")
    house = Glance((Assistant.model_validate(assistant("a", "甲", "A", reason="Old.")),))
    for glance, trouble, said in (
        (house, "", []),
        (house, GONE, [words.status_none]),
        (house, LOCKED, [words.status_locked]),
        (Glance(), "", [words.house_empty]),
        (house.lost(), GONE, [words.house_gone]),
        (house.lost(LOCKED), "", [words.house_locked]),
        (Glance().lost(LOCKED), LOCKED, [words.house_locked, words.status_locked]),
    ):
        watch.trouble = trouble
        shown = draw(board, watch, glance, "en")
        found = re.findall('<p class="hanlin-trouble" role="status">(.*?)</p>', shown[board.head])
        assert found == ([" ".join(said)] if said else [])
        assert ("Old." in shown[board.table]) is (glance is house)


async def test_the_watch_looks_again_and_again_and_says_when_it_is_blind() -> None:
    stub, port = GatewayStub(exposition=told()), free_port()
    watch = Watch(f"http://127.0.0.1:{port}", key="k", each=0.02)
    assert watch.trouble == GONE
    looking = asyncio.create_task(watch.keep_looking())

    async def until(trouble: str, *, readings: int = 0) -> None:
        async with asyncio.timeout(10):
            while watch.trouble != trouble or len(watch.readings) < readings:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # only real time brings more

    async with serving(stub, port):
        await until("", readings=3)
        assert stub.keys == {"Bearer k"}
        for status, said, trouble in (
            (401, "", LOCKED),
            (503, "", GONE),
            (403, "", LOCKED),
            (200, told(), ""),
            (200, "}{ no exposition", GONE),
            (200, told(), ""),
        ):
            stub.metrics_status, stub.exposition = status, said
            await until(trouble)
    await until(GONE)
    assert len(watch.readings) >= 3  # what was seen is still shown
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_the_board_is_live(anyone: Visitor, gateway: GatewayStub) -> None:
    gateway.exposition = told()
    page = anyone.page
    zh = (page.viewport_size or {})["width"] == 1280
    await anyone.go("?view=status")
    row = page.locator(".hanlin-table tbody tr", has_text="天机" if zh else "Tianji")
    await expect(row).to_contain_text("1 可用 · 1 载入中" if zh else "1 ready · 1 loading")
    await expect(page.locator(".hanlin-chart svg.marks")).to_have_count(3)
    await expect(page.locator(".hanlin-trouble")).to_have_count(0)
    assert await page.evaluate("document.documentElement.scrollWidth") <= (1280 if zh else 390)
    gateway.exposition = told(out=600, first=4, failed=3)
    await expect(row.locator("td").nth(4)).not_to_have_text("0.0")
    await expect(row.locator("td").nth(5)).to_have_text("0.25 s")
    await expect(row.locator("td").nth(6)).not_to_have_text("0 · 0")
    gateway.models[3] |= {"state": "failed", "reason": "The engine of 'wishes' was killed."}
    why = page.locator(".hanlin-why")
    said = "The engine of 'wishes' was killed."
    await expect(why).to_have_text(texts("zh" if zh else "en").why["failed"] + said)
    await expect(why.locator("q[lang=en]")).to_have_text(said)
    gateway.exposition = "}{ no exposition"
    trouble = page.locator("#status .hanlin-trouble")
    await expect(trouble).to_contain_text("/metrics")
    await expect(row.locator("td").nth(1)).to_have_text("–")


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_whoever_is_refused_is_told_why(anyone: Visitor, gateway: GatewayStub) -> None:
    gateway.exposition, gateway.metrics_status = told(), 403
    await anyone.go("?view=status")
    trouble = anyone.page.locator("#status .hanlin-trouble")
    await expect(trouble).to_contain_text("HANLIN_KEY")
    await expect(trouble).to_contain_text("/metrics")
    await expect(anyone.page.locator(".hanlin-table tbody td").nth(1)).to_have_text("–")
    gateway.metrics_status = 200
    await expect(trouble).to_have_count(0)
