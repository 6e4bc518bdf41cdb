"""Checks one workspace against all rules that its engine has."""

from __future__ import annotations

import os
from pathlib import Path

from convert.errors import ConvertError
from convert.verify.loader import dry_run, interpreter
from convert.verify.report import TURBOMIND, NotApplicable, Report, Rule, UnreadError, Verdict
from convert.verify.table import RULES
from convert.verify.view import View


def verify(
    workspace: Path, *, tp: int | None = None, python: Path | None = None, loader: bool = True
) -> Report:
    """Check a workspace.

    `tp` overrides what its engine.json says. TurboMind's real loader is asked too where there is
    an LMDeploy: in `python`, or as HANLIN_LMDEPLOY_PYTHON or this interpreter have it.

    Raises:
        ConvertError: there is no such folder, or `python` cannot be started.
    """
    if not workspace.is_dir():
        raise ConvertError(f"There is no workspace {workspace}; build one with hanlin convert.")
    view = View(workspace, tp)
    engine = view.engine_name
    verdicts = tuple(_judge(rule, view) for rule in RULES if engine in rule.engines)
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


def _judge(rule: Rule, view: View) -> Verdict:
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
