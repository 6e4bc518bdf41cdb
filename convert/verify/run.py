"""Checks one workspace against all rules that its engine has."""

from __future__ import annotations

import os
from pathlib import Path

from convert.errors import ConvertError
from convert.verify.loader import dry_run, interpreter
from convert.verify.report import TURBOMIND, NotApplicable, Report, Rule, UnreadError, Verdict
from convert.verify.table import RULES
from convert.verify.view import View
from convert.workspace import ENGINE, MANIFEST

_NAMED = 4
"""Workspaces that are named where somebody meant one of them."""


def verify(
    workspace: Path, *, tp: int | None = None, python: Path | None = None, loader: bool = True
) -> Report:
    """Check a workspace.

    `tp` overrides what its engine.json says. TurboMind's real loader is asked too where there is
    an LMDeploy: in `python`, or as HANLIN_LMDEPLOY_PYTHON or this interpreter have it.

    Raises:
        ConvertError: there is no such workspace, or `python` cannot be started.
    """
    if not workspace.is_dir():
        raise ConvertError(f"There is no workspace {workspace}; build one with hanlin convert.")
    if not _is_workspace(workspace):
        raise ConvertError(_no_workspace(workspace))
    view = View(workspace, tp)
    engine = view.engine_name
    verdicts = tuple(judge(rule, view) for rule in RULES if engine in rule.engines)
    asked = python or (interpreter(os.environ) if loader else None)
    run = None
    if asked is not None and engine == TURBOMIND:
        run = dry_run(view, asked) if _can_be_asked(view) else None
    ranks = tp or (view.tp if _can_be_asked(view) else 1)
    return Report(workspace, engine, ranks, verdicts, run)


def _can_be_asked(view: View) -> bool:
    try:
        _ = view.engine
    except UnreadError:
        return False
    return True


def _is_workspace(folder: Path) -> bool:
    return (folder / ENGINE).exists() or (folder / MANIFEST).exists()


def _no_workspace(folder: Path) -> str:
    inside = sorted(path for depth in ("*", "*/*") for path in folder.glob(depth))
    found = [path for path in inside if path.is_dir() and _is_workspace(path)]
    hint = (
        f"there is {', '.join(map(str, found[:_NAMED]))}" if found else "hanlin convert makes one"
    )
    return f"{folder} is no workspace (it has no {ENGINE} and no {MANIFEST}); {hint}."


def judge(rule: Rule, view: View) -> Verdict:
    """What one rule says."""
    try:
        return Verdict(rule, tuple(rule.check(view)))
    except NotApplicable as reason:
        return Verdict(rule, skipped=str(reason))
    except UnreadError as error:
        if _owned(rule, error.finding.where):
            return Verdict(rule, (error.finding,))
        return Verdict(rule, skipped=str(error))


def _owned(rule: Rule, where: str) -> bool:
    return where in rule.owns or ("weights" in rule.owns and where.endswith(".safetensors"))
