"""What engines may take of a machine: the smallest limit that holds for this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from hanlin import machine as machines
from hanlin.machine import LEAST_KEPT, PART, cores, for_engines

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


def bound_to(monkeypatch: pytest.MonkeyPatch, processors: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(processors)), raising=False)


@pytest.mark.parametrize(
    ("cgroup", "limits", "wanted"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/\n", {"cpu.max": "400000 100000"}, 4),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),  # half of one is one
        ("0::/a\n", {"a/cpu.max": "max 100000", "cpu.max": "250000 100000"}, 2),  # a group above
        ("0::/\n", {"cpu.max": "6400000 100000"}, 8),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        (
            "3:cpu,cpuacct:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}, 3,
        ),
    ],
)  # fmt: skip
def test_processors_are_those_it_may_use(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cgroup: str,
    limits: dict[str, str],
    wanted: int,
) -> None:
    bound_to(monkeypatch, 8)
    machine(tmp_path, cgroup)
    for place, text in limits.items():
        file = tmp_path / "sys/fs/cgroup" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    assert cores(tmp_path) == wanted
