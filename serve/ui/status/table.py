"""All assistants in a table: how each stands, how it does, and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from serve.pace import Pace, pace
from serve.reading import Counted, Reading
from serve.ui.house import Assistant
from serve.ui.texts import Texts, texts
from serve.ui.view import QUOTE, state, tag

UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Line:
    """One assistant on the board."""

    assistant: Assistant
    title: str
    colour: str
    paces: Sequence[Pace]


def table(lines: Sequence[Line], readings: Sequence[Reading], language: str, *, known: bool) -> str:
    """All assistants, one a row; the colour before each name is that of its lines.

    What is not `known` now is not told; below an assistant stands what is wrong with its engines.
    """
    if not lines:
        return ""
    words = texts(language)
    heads = (
        words.assistant, words.state, words.replicas, words.in_flight, words.queue,
        words.tokens_now, words.first_now, words.errors_now,
    )  # fmt: skip
    rows = []
    for line in lines:
        now = readings[-1].of(line.assistant.id) if known and readings else None
        cells = (*_standing(now, words), *_now(line, known), _errors(readings, line.assistant.id))
        told = "".join(
            f'<td data-label="{name}">{cell}</td>'
            for name, cell in zip(heads[2:], cells, strict=True)
        )
        rows.append(
            f'<tr><th scope="row"><i style="background:{line.colour}"></i>{escape(line.title)}</th>'
            f"<td>{state(line.assistant.state, words)}</td>{told}</tr>"
        )
        if why := _why(line.assistant, now, words):
            rows.append(f'<tr class="hanlin-why"><td colspan="{len(heads)}">{why}</td></tr>')
    top = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f'<table class="hanlin-table" lang="{tag(language)}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _standing(now: Counted | None, words: Texts) -> tuple[object, object, object]:
    if now is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    return _replicas(now, words), now.in_flight, now.queue


def _replicas(now: Counted, words: Texts) -> str:
    """How many are in which state; one that is ready needs no word."""
    if set(now.replicas) <= {"ready"}:
        return str(now.replicas.get("ready", UNKNOWN))
    order = [*words.states, *now.replicas]
    told = [
        f"{now.replicas[name]} {words.states.get(name, name)}"
        for name in sorted(now.replicas, key=order.index)
    ]
    return escape(" · ".join(told))


def _now(line: Line, known: bool) -> tuple[str, str]:
    if not known or not line.paces:
        return UNKNOWN, UNKNOWN
    latest = line.paces[-1]
    first = latest.first_token
    return f"{latest.tokens_per_second:.1f}", UNKNOWN if first is None else f"{first:.2f} s"


def _errors(readings: Sequence[Reading], assistant: str) -> str:
    """Of all the minutes that are shown."""
    whole = pace(readings, assistant)
    return f"{whole.failed} · {whole.refused}" if whole else UNKNOWN


def _why(assistant: Assistant, now: Counted | None, words: Texts) -> str:
    """What is wrong with its engines: what its state means, the engine host's own words, and the
    gateway's count."""
    said = []
    if assistant.reason:
        known = words.why.get(assistant.state, words.why["failed"])
        said.append(f"{known}{QUOTE}{escape(assistant.reason)}</q>")
    if now is not None and now.cut_off:
        said.append(words.cut_off.format(count=now.cut_off))
    return " ".join(said)
