"""The state of the house: where it stands on the page, and what it shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import gradio as gr

from serve.pace import Pace, paces
from serve.ui.house import GONE, LOCKED, Glance
from serve.ui.status.chart import Point, Span, chart
from serve.ui.status.table import Line, table
from serve.ui.status.watch import MINUTES, Watch
from serve.ui.texts import Texts, texts
from serve.ui.view import called, tag

Update = dict[Any, Any]
Value = Callable[[Pace], float | None]

COLOURS = ("#b0452f", "#4d8b5f", "#3f6f9f", "#b8862b", "#7a5a94", "#4f8f93", "#8a6d4f", "#a34f74")
"""Of the lines, in the order of the assistants; all can be told apart on paper and on ink."""

WINDOW = 3.5
"""Each point of a curve is over the three steps before it; the half is for readings that are late.
Over one step alone, whole answers, which count when they end, would make it jagged."""

LEAST_SECONDS = 120.0
"""A chart that has just begun is drawn as wide as if it had run so long."""


@dataclass(frozen=True, slots=True)
class Board:
    """The components, and the clock that redraws them while somebody looks."""

    column: gr.Column
    tick: gr.Timer
    head: gr.HTML
    table: gr.HTML
    titles: tuple[gr.HTML, gr.HTML, gr.HTML]
    tokens: gr.Plot
    first: gr.Plot
    errors: gr.Plot

    @property
    def drawn(self) -> list[gr.blocks.Block]:
        """What changes as time goes by."""
        return [self.head, self.table, self.tokens, self.first, self.errors]

    @property
    def dressed(self) -> list[gr.blocks.Block]:
        return [self.column, self.tick, *self.titles, *self.drawn]


def lay_board(each_seconds: float) -> Board:
    with gr.Column(elem_id="status", visible=False) as column:
        head = gr.HTML("", elem_id="status-head")
        table = gr.HTML("", elem_id="status-table")
        charts = []
        with gr.Row(elem_id="charts"):
            for name in ("tokens", "first", "errors"):
                with gr.Column(elem_classes="hanlin-chart", min_width=280):
                    charts.append((gr.HTML(""), _plot(name)))
    titles, plots = zip(*charts, strict=True)
    return Board(column, gr.Timer(each_seconds, active=False), head, table, titles, *plots)


def _plot(name: str) -> gr.Plot:
    return gr.Plot(show_label=False, container=False, buttons=[], elem_id=f"chart-{name}")


def dress_board(
    board: Board, watch: Watch, glance: Glance, language: str, *, shown: bool
) -> Update:
    """Everything on it; nothing of it is drawn while nobody looks."""
    update: Update = {
        board.column: gr.Column(visible=shown),
        board.tick: gr.Timer(active=shown),
    }
    if not shown:
        return update
    words = texts(language)
    named = (words.tokens_chart, words.first_chart, words.errors_chart)
    headings = zip(board.titles, named, strict=True)
    return (
        update
        | {title: f'<h3 lang="{tag(language)}">{name}</h3>' for title, name in headings}
        | draw(board, watch, glance, language)
    )


def draw(board: Board, watch: Watch, glance: Glance, language: str) -> Update:
    """The table and the charts as they are now."""
    readings, words, window = watch.readings, texts(language), WINDOW * watch.each
    lines = [
        Line(a, called(a, glance, language), colour, paces(readings, a.id, seconds=window))
        for a, colour in zip(glance.assistants, cycle(COLOURS), strict=False)
    ]
    until = readings[-1].at if readings else time.time()
    since = max(readings[0].at, until - MINUTES * 60) if readings else until
    span = Span(min(since, until - LEAST_SECONDS), until)
    colours = {line.title: line.colour for line in lines}
    values: tuple[tuple[gr.Plot, str, Value], ...] = (
        (board.tokens, words.tokens_now, lambda pace: pace.tokens_per_second),
        (board.first, words.first_now, lambda pace: pace.first_token),
        (board.errors, words.errors_now, lambda pace: pace.errors_per_minute),
    )
    update: Update = {
        board.head: _head(watch, glance, language),
        board.table: table(lines, readings, language, known=not watch.trouble),
    }
    for plot, named, value in values:
        points = [point for line in lines for point in curve(line, value, window)]
        update[plot] = chart(points, span, colours, named=named, time=words.time)
    return update


def curve(line: Line, value: Value, window: float) -> Iterator[Point]:
    """Its line in one chart; with a gap where for so many seconds nothing could be read."""
    before: Pace | None = None
    for pace in line.paces:
        if before is not None and pace.at - before.at > window:
            yield Point(before.at, None, line.title)
        yield Point(pace.at, value(pace), line.title)
        before = pace


def _head(watch: Watch, glance: Glance, language: str) -> str:
    words = texts(language)
    told = words.status_about.format(minutes=MINUTES, seconds=f"{watch.each:g}")
    wrong = _trouble(watch, glance, words)
    trouble = f'<p class="hanlin-trouble" role="status">{wrong}</p>' if wrong else ""
    return (
        f'<section class="hanlin-about" lang="{tag(language)}"><h2>{words.status_title}</h2>'
        f"<p>{told}</p>{trouble}</section>"
    )


def _trouble(watch: Watch, glance: Glance, words: Texts) -> str:
    """Why something is missing here, if it is."""
    of_house = {GONE: words.house_gone, LOCKED: words.house_locked}
    of_numbers = {GONE: words.status_none, LOCKED: words.status_locked}
    if glance.trouble == GONE:  # then there are no numbers either
        return of_house[GONE]
    empty = "" if glance.assistants or glance.trouble else words.house_empty
    said = (of_house.get(glance.trouble, empty), of_numbers.get(watch.trouble, ""))
    return " ".join(filter(None, said))
