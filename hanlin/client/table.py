"""How a house stands, as a person reads it: who was asked, and a line for each engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hanlin.client.overview import Assistant, Device, Overview, Part, Replica
from hanlin.screen import STYLES

WIDE = 120
"""From so many columns on there is room for addresses and reasons in the table itself."""
UNKNOWN = "–"
CUT_OFF = "Engines that failed several times in a row and get no requests for a while: {count}."
UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"))
SPANS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Row:
    """One engine of an assistant; the first tells what is true of all."""

    assistant: Assistant
    replica: Replica | None
    first: bool
    now: float


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and what stands under it."""

    heading: str
    cell: Callable[[Row], str | Text]
    justify: Literal["left", "right"] = "left"
    wide: bool = False
    """Only where there is room."""
    gpu: bool = False
    """Only where there are GPUs."""
    folds: bool = False
    """Whether it may go on in a second line."""


def table(shown: Overview, width: int) -> RenderableType:
    """All of it, in so many columns."""
    wide = width >= WIDE
    rows = list(_rows(shown))
    gpus = any(device.kind == "gpu" for device in shown.devices)
    parts: list[RenderableType] = [_heads(shown), _table(rows, wide=wide, gpus=gpus)]
    if not wide:
        parts += [Text(f"{name}: {reason}") for name, reason in _reasons(rows)]
    if note := _note(shown):
        parts.append(Text(note, style="dim"))
    return Group(*parts)


def _rows(shown: Overview) -> Iterator[Row]:
    for assistant in shown.assistants:
        for number, replica in enumerate(assistant.replicas or (None,)):
            yield Row(assistant, replica, first=number == 0, now=shown.at)


def _heads(shown: Overview) -> RenderableType:
    heads = Table.grid(padding=(0, 2, 0, 0))
    for label, part in (("Gateway", shown.gateway), ("Engine host", shown.engines)):
        if part.state:
            heads.add_row(Text(label, style="dim"), _answered(part))
        for problem in filter(None, (part.problem, part.declarations)):
            heads.add_row(Text(label, style="dim"), Text(problem, style="red"))
    for device in shown.devices:
        heads.add_row(Text(_device_name(device), style="dim"), Text(_taken(device)))
    return heads


def _answered(part: Part) -> Text:
    return Text(f"{part.url}  ").append_text(_state(part.state or ""))


def _device_name(device: Device) -> str:
    return "Memory" if device.kind == "memory" else f"GPU {device.device}"


def _taken(device: Device) -> str:
    return f"{size(device.taken)} of {size(device.memory)} taken"


def _table(rows: Sequence[Row], *, wide: bool, gpus: bool) -> Table:
    gap = (0, 1 if wide else 0, 0, 0)  # besides the one that the box has
    table = Table(box=SIMPLE_HEAD, padding=gap, show_edge=False, header_style="dim")
    told = any(True for _ in _reasons(rows))
    columns = [c for c in COLUMNS if (wide or not c.wide) and (gpus or not c.gpu)]
    columns += [REASON] if wide and told else []
    for column in columns:
        table.add_column(
            column.heading,
            justify=column.justify,
            vertical="top",
            no_wrap=not column.folds,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _reasons(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Those that do not stand in the table."""
    for row in rows:
        if reason := _reason(row):
            yield row.assistant.assistant, reason


def _reason(row: Row) -> str:
    said = row.replica.reason if row.replica else None
    count = row.assistant.cut_off if row.first else None
    cut_off = CUT_OFF.format(count=count) if count else None
    return " ".join(filter(None, (said, cut_off)))


def _note(shown: Overview) -> str:
    if shown.gateway.state is None:
        return "Without the gateway nobody knows how many requests and tokens there are."
    if shown.rate_seconds is None:
        return "First token: mean of all streams since the gateway started."
    return (
        f"Tokens/s: of the last {shown.rate_seconds:.0f} s. "
        "First token: mean of all streams since the gateway started."
    )


def _name(row: Row) -> str:
    return row.assistant.assistant if row.first else ""


def _engine(row: Row) -> str:
    if row.replica is None:
        return "elsewhere" if row.assistant.elsewhere else ""
    return row.replica.engine or ""


def _address(row: Row) -> str:
    url = row.replica.url if row.replica else None
    return url.removeprefix("http://") if url else ""


def _state_cell(row: Row) -> Text:
    if row.replica is None:
        return _state(row.assistant.state)
    shown = _state(row.replica.state)
    return shown.append(", pinned", style="dim") if row.replica.pinned else shown


def _since(row: Row) -> str:
    since = row.replica.since if row.replica else None
    return "" if since is None else span(row.now - since)


def _restarts(row: Row) -> str:
    return str(row.replica.restarts) if row.replica else ""


def _devices(row: Row) -> str:
    return ",".join(map(str, row.replica.devices)) if row.replica else ""


def _memory(row: Row) -> str:
    taken = row.replica.memory if row.replica else None
    return size(taken) if taken else ""


def _in_flight(row: Row) -> str:
    return _of_first(row, row.assistant.in_flight, str)


def _queue(row: Row) -> str:
    return _of_first(row, row.assistant.queue, str)


def _rate(row: Row) -> str:
    return _of_first(row, row.assistant.tokens_per_second, figures)


def _first_token(row: Row) -> str:
    return _of_first(row, row.assistant.time_to_first_token, lambda known: moment(known.mean))


T = TypeVar("T")


def _of_first(row: Row, value: T | None, shown: Callable[[T], str]) -> str:
    if not row.first:
        return ""
    return UNKNOWN if value is None else shown(value)


def _state(state: str) -> Text:
    return Text(state, style=STYLES.get(state, "yellow"))


def size(taken: int) -> str:
    """So many bytes, as one says it."""
    for unit, name in UNITS:
        if taken >= unit:
            number = taken / unit
            return f"{number:.0f} {name}" if number >= 100 else f"{number:.3g} {name}"
    return f"{taken} B"


def span(seconds: float) -> str:
    """So long, in its largest unit."""
    for unit, name in SPANS:
        if seconds >= unit:
            return f"{int(seconds // unit)}{name}"
    return "0s"


def moment(seconds: float) -> str:
    """So short, as one says it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{figures(seconds)} s"


def figures(value: float) -> str:
    """With as many figures as one reads at a glance."""
    return f"{value:.0f}" if value >= 100 or not value else f"{value:.2g}"


COLUMNS = (
    Column("assistant", _name, folds=True),
    Column("engine", _engine, wide=True),
    Column("address", _address, wide=True),
    Column("state", _state_cell, folds=True),
    Column("since", _since, "right"),
    Column("re-\nstarts", _restarts, "right"),
    Column("GPU", _devices, "right", gpu=True),
    Column("memory", _memory, "right"),
    Column("in\nflight", _in_flight, "right"),
    Column("queue", _queue, "right"),
    Column("tokens\n/s", _rate, "right"),
    Column("first\ntoken", _first_token, "right"),
)
REASON = Column("reason", _reason, folds=True)
