"""Puts what was measured into the documentation, and says on what machine it was."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
END = "<!-- end -->"


def machine() -> str:
    """What it was measured on, and how busy that was before."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = found[1] if found else platform.machine()
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({model}), Linux "
        f"{platform.release().partition('-')[0]}, load {os.getloadavg()[0]:.1f} before the run"
    )


def write(begin: str, tables: str, *, page: str = "performance.md") -> None:
    """Replace what stands between this mark and the next end."""
    path = DOCS / page
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        sys.exit(f"{path} has no place for the tables ({begin} … {END}).")
    path.write_text(f"{before}{begin}\n{tables}\n{END}{after}", encoding="utf-8")
