"""The state of the house: where it stands on the page, and what it shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from typing import Any

import gradio as gr

from serve.ui.house import Assistant, Glance
from serve.ui.status.chart import Point, Span, chart
from serve.ui.status.pace import Pace, paces, total
from serve.ui.status.reading import Reading, Standing
from serve.ui.status.watch import MINUTES, Watch
from serve.ui.texts import Texts, texts
from serve.ui.view import called, state, tag

Update = dict[Any, Any]

COLOURS = ("#b0452f", "#4d8b5f", "#3f6f9f", "#b8862b", "#7a5a94", "#4f8f93", "#8a6d4f", "#a34f74")
"""Of the lines, in the order of the assistants; all can be told apart on paper and on ink."""


LEAST_SECONDS = 120.0
"""A chart that has just begun is drawn as wide as if it had run so long."""


@dataclass(frozen=True, slots=True)
class Line:
    """One assistant on the board."""

    assistant: Assistant
    title: str
    colour: str
    paces: Sequence[Pace]


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
    readings, words = watch.readings, texts(language)
    lines = [
        Line(a, called(a, glance, language), colour, paces(readings, a.id))
        for a, colour in zip(glance.assistants, cycle(COLOURS), strict=False)
    ]
    until = readings[-1].at if readings else time.time()
    since = readings[0].at if readings else until
    span = Span(min(since, until - LEAST_SECONDS), until)
    colours = {line.title: line.colour for line in lines}
    update: Update = {
        board.head: _head(watch, language),
        board.table: table(lines, readings, language),
    }
    values: tuple[tuple[gr.Plot, str, Callable[[Pace], float | None]], ...] = (
        (board.tokens, words.tokens_now, lambda pace: pace.tokens),
        (board.first, words.first_now, lambda pace: pace.first),
        (board.errors, words.errors_now, lambda pace: pace.failed + pace.refused),
    )
    for plot, named, value in values:
        points = [
            Point(pace.at, at_that_time, line.title)
            for line in lines
            for pace in line.paces
            if (at_that_time := value(pace)) is not None
        ]
        update[plot] = chart(points, span, colours, named=named, time=words.time)
    return update


def table(lines: Sequence[Line], readings: Sequence[Reading], language: str) -> str:
    """All assistants, one a row; the colour before each name is that of its lines."""
    words = texts(language)
    heads = (
        words.assistant, words.state, words.replicas, words.in_flight, words.queue,
        words.tokens_now, words.first_now, words.errors_now,
    )  # fmt: skip
    latest = readings[-1].standings if readings else {}
    rows = []
    for line in lines:
        standing = latest.get(line.assistant.id, Standing())
        cells = (
            _replicas(standing, words),
            standing.in_flight,
            standing.queue,
            *_now(line.paces[-1] if line.paces else None),
            _errors(readings, line.assistant.id),
        )
        told = "".join(
            f'<td data-label="{name}">{cell}</td>'
            for name, cell in zip(heads[2:], cells, strict=True)
        )
        rows.append(
            f'<tr><th scope="row"><i style="background:{line.colour}"></i>{escape(line.title)}</th>'
            f"<td>{state(line.assistant.state, words)}</td>{told}</tr>"
        )
    top = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f'<table class="hanlin-table" lang="{tag(language)}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _replicas(standing: Standing, words: Texts) -> str:
    """How many are in which state; one that is ready needs no word."""
    found = {name: count for name, count in standing.replicas.items() if count}
    if not found:
        return "–"
    if set(found) == {"ready"}:
        return str(found["ready"])
    told = [f"{count} {words.states.get(name, name)}" for name, count in found.items()]
    return escape(" · ".join(told))


def _now(pace: Pace | None) -> tuple[str, str]:
    if pace is None:
        return "–", "–"
    return f"{pace.tokens:.1f}", "–" if pace.first is None else f"{pace.first:.2f} s"


def _errors(readings: Sequence[Reading], assistant: str) -> str:
    count = total(readings, assistant)
    return f"{count.failed:.0f} · {count.refused:.0f}"


def _head(watch: Watch, language: str) -> str:
    words = texts(language)
    told = words.status_about.format(minutes=MINUTES, seconds=f"{watch.each:g}")
    trouble = (
        f'<p class="hanlin-trouble" role="status">{words.status_none}</p>' if watch.blind else ""
    )
    return (
        f'<section class="hanlin-about" lang="{tag(language)}"><h2>{words.status_title}</h2>'
        f"<p>{told}</p>{trouble}</section>"
    )
