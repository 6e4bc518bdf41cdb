"""`verify` and `plan`: what is known of workspaces and machines, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from assistants.errors import HanlinError
from assistants.load import load_house

if TYPE_CHECKING:
    from convert.fit.gpus import Gpu
    from convert.verify import Report


def verify(workspace: Path, *, tp: int | None, as_json: bool) -> int:
    """Check a workspace; returns the exit code."""
    from convert.verify import verify

    report = verify(workspace, tp=tp)
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(json.dumps(report.as_json()))
    else:
        _show(report, console)
    return 0 if report.ok else 1


def _show(report: Report, console: Console) -> None:
    table = Table("rule", "what it asks", "", title=f"{report.folder} ({report.engine})")
    for verdict in report.verdicts:
        rule = verdict.rule
        state = f"not checked: {verdict.skipped}" if verdict.skipped else "ok"
        table.add_row(str(rule.number), rule.name, "FAILED" if verdict.findings else state)
    if report.loader is not None:
        table.add_row("", "TurboMind's own loader", "ok" if report.loader.ok else "FAILED")
    console.print(table)
    for rule, finding in report.findings:
        console.print(f"rule {rule.number}, {rule.name}: {finding}", markup=False)
        console.print(f"  because {rule.reason}", markup=False)
    if report.loader is not None and not report.loader.ok:
        console.print(f"TurboMind's loader: {report.loader.error}", markup=False)


def plan(gpu: list[str], memory: str | None, folders: tuple[Path, Path], *, as_json: bool) -> None:
    """Say which assistants fit which GPUs, or run together in so much `memory` without one;
    `folders` are those of assistants and of workspaces.

    Raises:
        HanlinError: both were named, or neither, and there is no GPU here.
    """
    from convert.fit import machine_table, table

    assistants, workspaces = folders
    house = load_house(assistants)
    if memory is None:
        on_gpus = table.plan(house, _gpus(gpu), workspaces=workspaces)
        shown = table.tables(on_gpus), table.as_json(on_gpus), table.NOTE
    else:
        within = machine_table.plan(house, _memory(gpu, memory), workspaces=workspaces)
        shown = machine_table.tables(within), machine_table.as_json(within), machine_table.NOTE
    tables, document, note = shown
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(json.dumps(document))
        return
    *placed, left = tables
    for part in placed:
        if part.rows:
            console.print(_table(part.title, part.columns, part.rows))
    for name, why, remedy in left.rows:
        console.print(f"{name} is not placed: {why} {remedy}".strip(), markup=False)
    console.print(note, markup=False)


def _gpus(named: list[str]) -> tuple[Gpu, ...]:
    from convert.fit.gpus import read_gpus
    from hanlin.memory import present_gpus

    instead = "name one with --gpu 24GiB, or what llama.cpp may take with --memory 8GiB"
    return read_gpus(named) if named else present_gpus(instead=instead)


def _memory(gpu: list[str], memory: str) -> int:
    from convert.fit.gpus import read_size

    if gpu:
        raise HanlinError("--gpu plans for TurboMind and --memory for llama.cpp; name one of them.")
    return read_size(memory, option="--memory")


def _table(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
