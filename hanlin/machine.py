"""What this machine gives: memory to its engines, processors to arithmetic.

A container sees all of the machine; what it may take is said by its control group, and by every
group above it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PART = 8
"""One part in so many is not for engines: the host itself, the gateway, the page, the system."""
LEAST_KEPT = 256 << 20


def for_engines(root: Path = Path("/")) -> int:
    """Bytes that all engines together may take."""
    limits = [physical(), *_limits(root)]
    there = min(limits)
    return max(0, there - max(there // PART, LEAST_KEPT))


def physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cores(root: Path = Path("/")) -> int:
    """Processors that this process may use: those it is bound to, and no more than its container
    is given the time of."""
    bound = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min([bound, *_shares(root)]))


def _limits(root: Path) -> list[int]:
    """Bytes that the control groups of this process allow, of either version; none elsewhere."""
    found = []
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _said(group / name)
            if text.isdigit():  # not "max"; version 1 writes that as more than any machine has
                found.append(int(text))
    return found


def _shares(root: Path) -> list[int]:
    """Whole processors whose time the control groups allow."""
    found = []
    for group in _groups(root, "cpu"):
        old = f"{_said(group / 'cpu.cfs_quota_us')} {_said(group / 'cpu.cfs_period_us')}"
        quota, _, period = (_said(group / "cpu.max") or old).partition(" ")
        if quota.isdigit() and period.isdigit():  # not "max" or, in version 1, -1
            found.append(int(quota) // int(period))
    return found


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the control groups this process is in, each with all above it."""
    for line in _said(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup"
        if controllers:
            if controller not in controllers.split(","):
                continue
            mount /= controller
        inside = PurePosixPath(path.lstrip("/"))
        yield from (mount / inside, *(mount / above for above in inside.parents), mount)


def _said(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
