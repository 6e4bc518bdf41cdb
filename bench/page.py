"""Puts what was measured into docs/performance.md, and says on what machine it was."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
END = "<!-- end -->"


def machine() -> str:
    """What it was measured on, and how busy that was before."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = found[1] if found else platform.machine()
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({model}), Linux "
        f"{platform.release().partition('-')[0]}, load {os.getloadavg()[0]:.1f} before the run"
    )


def write(begin: str, tables: str) -> None:
    """Replace what stands between this mark and the next end."""
    before, found, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        sys.exit(f"{PAGE} has no place for the tables ({begin} … {END}).")
    PAGE.write_text(f"{before}{begin}\n{tables}\n{END}{after}", encoding="utf-8")
