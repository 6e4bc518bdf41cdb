"""The parts of a check: rules, their findings, and the report as a plain value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convert.verify.loader import LoaderRun
    from convert.verify.view import View

TURBOMIND = "turbomind"
LLAMACPP = "llamacpp"

REBUILD = "Build it again with hanlin convert --force."
"""The remedy for whatever is not as it was written."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: what, where, and what to do about it."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} {self.remedy}"


class UnreadError(Exception):
    """A file of the workspace that cannot be read; a rule that owns it reports it, others wait."""

    def __init__(self, where: str, what: str, remedy: str) -> None:
        super().__init__(f"{where} {what}")
        self.finding = Finding(where, what, remedy)


class NotApplicable(Exception):  # noqa: N818 - it is an answer, not an error
    """This rule has nothing to say about this workspace; the text says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule a workspace must keep."""

    number: int
    name: str
    reason: str
    """Why an engine would die, or answer garbage."""
    check: Callable[[View], Iterable[Finding]]
    owns: tuple[str, ...] = ()
    """Files whose being unreadable is this rule's to report."""
    engines: tuple[str, ...] = (TURBOMIND,)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule said; `skipped` tells why it was not checked."""

    rule: Rule
    findings: tuple[Finding, ...] = ()
    skipped: str | None = None

    @property
    def passed(self) -> bool:
        return not self.findings and self.skipped is None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known of one workspace."""

    folder: Path
    engine: str
    tp: int
    verdicts: tuple[Verdict, ...]
    loader: LoaderRun | None = None
    """What TurboMind's own loader made of it; None where there is no LMDeploy to ask."""

    @property
    def findings(self) -> Iterator[tuple[Rule, Finding]]:
        for verdict in self.verdicts:
            for finding in verdict.findings:
                yield verdict.rule, finding

    @property
    def failed(self) -> tuple[int, ...]:
        """The numbers of the rules that are broken."""
        return tuple(verdict.rule.number for verdict in self.verdicts if verdict.findings)

    @property
    def ok(self) -> bool:
        return not self.failed and (self.loader is None or self.loader.ok)

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "workspace": str(self.folder),
            "engine": self.engine,
            "tp": self.tp,
            "ok": self.ok,
            "rules": [_verdict(verdict) for verdict in self.verdicts],
            "loader": self.loader.as_json() if self.loader else None,
        }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "number": verdict.rule.number,
        "name": verdict.rule.name,
        "passed": verdict.passed,
        "skipped": verdict.skipped,
        "reason": verdict.rule.reason,
        "findings": [
            {"where": finding.where, "what": finding.what, "remedy": finding.remedy}
            for finding in verdict.findings
        ],
    }
