"""What engines may take of a machine: the smallest limit that holds for this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from hanlin import machine as machines
from hanlin.machine import LEAST_KEPT, PART, for_engines

GIB = 1 << 30


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 GiB, whatever this one has."""
    monkeypatch.setattr("hanlin.machine.physical", lambda: 64 * GIB)


def machine(root: Path, cgroup: str, **limits: str) -> Path:
    """A file system with this /proc/self/cgroup and these limits (`__` stands for a slash)."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup, encoding="utf-8")
    for place, text in limits.items():
        *folders, name = place.replace("__", "/").split("/")
        folder = root.joinpath("sys/fs/cgroup", *folders)
        folder.mkdir(parents=True, exist_ok=True)
        name = "memory.limit_in_bytes" if "memory" in folders[:1] else "memory.max"
        (folder / name).write_text(text + "\n", encoding="ascii")
    return root


def less(limit: int) -> int:
    return limit - max(limit // PART, LEAST_KEPT)


def test_this_machine_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 0 < for_engines() < machines.physical()


def test_without_control_groups_it_is_the_machines(tmp_path: Path) -> None:
    assert for_engines(tmp_path) == less(64 * GIB) == 56 * GIB


@pytest.mark.parametrize(
    ("cgroup", "limits", "limit"),
    [
        ("0::/\n", {"_": str(2 * GIB)}, 2 * GIB),  # in a container, which sees itself as all
        ("0::/\n", {"_": "max"}, 64 * GIB),
        ("0::/a/b\n", {"a__b__": "max", "a__": str(4 * GIB)}, 4 * GIB),  # a group above
        ("0::/a/b\n", {"a__b__": str(8 * GIB), "a__": str(4 * GIB)}, 4 * GIB),
        ("0::/a\n", {"a__": str(100 * GIB)}, 64 * GIB),
        ("4:memory:/docker/x\n2:cpu:/\n", {"memory__docker__x__": str(3 * GIB)}, 3 * GIB),
        ("4:memory:/docker/x\n", {"memory__": str(3 * GIB)}, 3 * GIB),  # mounted as the container's
        ("4:cpu,memory:/\n", {"memory__": "9223372036854771712"}, 64 * GIB),
        ("4:cpu:/\n1:name=systemd:/\n0::/\n", {"memory__": str(GIB)}, 64 * GIB),
    ],
)
def test_the_control_groups_limit_counts(
    tmp_path: Path, cgroup: str, limits: dict[str, str], limit: int
) -> None:
    assert for_engines(machine(tmp_path, cgroup, **limits)) == less(limit)


def test_a_tiny_container_has_nothing_to_give(tmp_path: Path) -> None:
    assert for_engines(machine(tmp_path, "0::/\n", _=str(200 << 20))) == 0
