"""One chart as a Vega-Lite document, drawn by the library that Gradio's plots are drawn with. Pure.

Gradio's own LinePlot writes its document for an older Vega-Lite than it brings along, which says so
in the browser's console each time; and axes in the colours of day stay so at night.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradio.components.plot import PlotData

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
HEIGHT = 170
TICKS = 5


@dataclass(frozen=True, slots=True)
class Point:
    """A value at one time (seconds since 1970); where it is None, the line has a gap."""

    at: float
    value: float | None
    name: str


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a chart shows."""

    since: float
    until: float


def chart(
    points: Sequence[Point], span: Span, colours: Mapping[str, str], *, named: str, time: str
) -> PlotData:
    """A line for each name; `named` and `time` are said where one points at it."""
    document = {
        "$schema": SCHEMA,
        "width": "container",
        "height": HEIGHT,
        "autosize": {"type": "fit", "contains": "padding"},
        # On the left more than Vega's 5: it takes the numbers for narrower than the page's font is.
        "padding": {"left": 10, "top": 5, "right": 5, "bottom": 5},
        "background": "transparent",
        "usermeta": {"embedOptions": {"renderer": "svg", "actions": False}},
        "data": {"values": [_row(point) for point in points]},
        "mark": {
            "type": "line",
            "interpolate": "monotone",
            "strokeWidth": 2,
            "strokeCap": "round",  # so that a value alone between two gaps is seen as a dot
            "invalid": "break-paths-show-path-domains",
            "point": {"opacity": 0, "size": 160},
        },
        "encoding": _encoding(points, span, colours, named=named, time=time),
        "config": {
            "view": {"stroke": None},
            "axis": {"domain": False, "ticks": False},
        },
    }
    return PlotData(type="altair", plot=json.dumps(document, ensure_ascii=False))


def _row(point: Point) -> dict[str, Any]:
    value = None if point.value is None else round(point.value, 3)
    return {"at": round(point.at * 1000), "value": value, "name": point.name}


def _ticks(span: Span) -> list[int]:
    """A few whole minutes."""
    step = 60 * max(1, round((span.until - span.since) / 60 / TICKS))
    first = -int(-span.since // step) * step
    return [at * 1000 for at in range(first, int(span.until) + 1, step)]


def _encoding(
    points: Sequence[Point], span: Span, colours: Mapping[str, str], *, named: str, time: str
) -> dict[str, Any]:
    highest = max((point.value or 0 for point in points), default=0)
    x_axis = {"format": "%H:%M", "values": _ticks(span), "labelPadding": 6, "grid": False}
    x_scale = {"domain": [span.since * 1000, span.until * 1000]}
    y_scale = {"domain": [0, 1]} if highest <= 0 else {"domainMin": 0, "nice": True}
    clock = {"field": "at", "type": "temporal", "format": "%H:%M:%S", "title": time}
    value = {"field": "value", "type": "quantitative", "format": ".2f", "title": named}
    lines = {"domain": list(colours), "range": list(colours.values())}
    return {
        "x": {"field": "at", "type": "temporal", "title": None, "axis": x_axis, "scale": x_scale},
        "y": {
            "field": "value",
            "type": "quantitative",
            "title": None,
            "axis": {"tickCount": 4, "labelPadding": 6},
            "scale": y_scale,
        },
        "color": {"field": "name", "type": "nominal", "legend": None, "scale": lines},
        "tooltip": [{"field": "name", "type": "nominal", "title": " "}, value, clock],
    }
