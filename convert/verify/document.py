"""The table of rules in docs/verify.md, generated from the rules themselves.

`python -m convert.verify.document --write` writes it anew, `--check` says whether it is true.
"""

from __future__ import annotations

import sys
from pathlib import Path

from convert.verify.table import RULES

DOCUMENT = Path(__file__).parents[2] / "docs" / "verify.md"
_BEGIN, _END = "<!-- rules -->\n", "<!-- /rules -->"


def as_markdown() -> str:
    """The rules as docs/verify.md shows them."""
    lines = ["| # | rule | engines | without it |", "|---|---|---|---|"]
    lines += [
        f"| {rule.number} | {rule.name} | {', '.join(rule.engines)} | {rule.reason} |"
        for rule in RULES
    ]
    return "\n".join(lines) + "\n"


def rewritten(document: str) -> str:
    """The document with the table that the code has now."""
    before, _, rest = document.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{as_markdown()}{_END}{after}"


def main(arguments: list[str]) -> int:
    """`--write` generates the table, `--check` says whether it is still true."""
    document = DOCUMENT.read_text(encoding="utf-8")
    if "--write" in arguments:
        DOCUMENT.write_text(rewritten(document), encoding="utf-8")
        return 0
    if rewritten(document) == document:
        return 0
    sys.stderr.write("docs/verify.md is out of date: run make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
