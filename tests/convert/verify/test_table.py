"""The document and the code have the same rules."""

from __future__ import annotations

from pathlib import Path

from convert.verify.document import DOCUMENT, main, rewritten
from convert.verify.table import RULES


def test_the_document_is_true(root: Path) -> None:
    assert root / "docs" / "verify.md" == DOCUMENT
    assert main(["--check"]) == 0


def test_a_stale_document_would_be_seen() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    stale = text.replace("| 16 | chat template |", "| 16 | template |")
    assert stale != text
    assert rewritten(stale) == text


def test_rules_are_numbered_without_gaps() -> None:
    assert [rule.number for rule in RULES] == list(range(1, 25))
    assert len({rule.name for rule in RULES}) == len(RULES)
