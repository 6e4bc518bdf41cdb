"""`verify` and `plan`: what is known of workspaces and GPUs, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from assistants.load import load_house

if TYPE_CHECKING:
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


def plan(gpu: list[str], assistants: Path, workspaces: Path, *, as_json: bool) -> None:
    """Say which assistants fit which GPUs.

    Raises:
        HanlinError: there is no GPU here and none was named.
    """
    from convert.fit.gpus import read_gpus
    from convert.fit.table import NOTE, plan, tables
    from convert.fit.table import as_json as document
    from hanlin.lanes import present_gpus

    gpus = read_gpus(gpu) if gpu else present_gpus(instead="name one with --gpu 24GiB")
    found = plan(load_house(assistants), gpus, workspaces=workspaces)
    console = Console(soft_wrap=True, highlight=False)
    if as_json:
        console.print_json(json.dumps(document(found)))
        return
    *placed, left = tables(found)
    for part in placed:
        if part.rows:
            console.print(_table(part.title, part.columns, part.rows))
    for name, why, remedy in left.rows:
        console.print(f"{name} is not placed: {why} {remedy}".strip(), markup=False)
    console.print(NOTE, markup=False)


def _table(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
