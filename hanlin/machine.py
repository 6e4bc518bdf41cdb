"""How much memory this machine gives its engines: what its container may have, or what it has.

A container sees all of the machine in /proc/meminfo; what it may take is said by its control
group, and by every group above it.
"""

from __future__ import annotations

import os
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


def _limits(root: Path) -> list[int]:
    """What the control groups of this process allow, of either version; none elsewhere."""
    try:
        text = (root / "proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _upwards(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            folder = root / "sys/fs/cgroup/memory"
            found += _upwards(folder, path, "memory.limit_in_bytes")
    return found


def _upwards(mount: Path, path: str, name: str) -> list[int]:
    """The limits from a group up to the mount, which in a container is the group itself."""
    inside = PurePosixPath(path.lstrip("/"))
    folders = [mount / inside, *(mount / above for above in inside.parents), mount]
    found = []
    for folder in folders:
        try:
            text = (folder / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():  # not "max"; version 1 writes that as more than any machine has
            found.append(int(text))
    return found
