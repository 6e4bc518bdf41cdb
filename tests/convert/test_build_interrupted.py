"""A build that fails, is killed or meets another: the old workspace stays till the new is whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from assistants import House
from convert.errors import BuildError
from tests.convert.making import ROOT
from tests.convert.test_build import Watching, built, contents


def test_a_failed_build_leaves_the_old_workspace(mini: House, tmp_path: Path) -> None:
    workspaces = tmp_path / "workspaces"
    folder, _ = built(mini, workspaces)
    before = contents(folder)
    model = tmp_path / "mini" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-5])
    with pytest.raises(Exception, match="was cut short"):
        built(mini, workspaces)
    assert contents(folder) == before
    assert sorted(os.listdir(folder.parent)) == [".declared", "llamacpp"]


BUILDER = """
import resource, sys
from pathlib import Path
from assistants import load_house
from convert.run import build

class Halting:
    done = 0
    def task(self, label, total_bytes):
        self.total = total_bytes
        return self
    def advance(self, n):
        self.done += n
        if sys.argv[3] == "halt" and self.done > self.total / 2:
            print("half", flush=True)
            sys.stdin.read()

if sys.argv[3] != "halt":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    build(load_house(Path(sys.argv[1])), engine="llamacpp", workspaces=Path(sys.argv[2]),
          force=True, progress=Halting())
except Exception as error:
    print(type(error).__name__, error)
"""


def builder(tmp_path: Path, how: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    folders = [str(tmp_path / "assistants"), str(tmp_path / "workspaces")]
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, *folders, how], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
    )


def test_killed_half_way(mini: House, tmp_path: Path) -> None:
    folder, _ = built(mini, tmp_path / "workspaces")
    before = contents(folder)
    with builder(tmp_path, "halt") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert (folder.parent / ".llamacpp.building").exists()
    assert contents(folder) == before
    assert built(mini, tmp_path / "workspaces", force=True) == (folder, True)
    assert sorted(os.listdir(folder.parent)) == [".declared", "llamacpp"]
    assert contents(folder)["model.gguf"] == before["model.gguf"]


def test_a_full_disk(mini: House, tmp_path: Path) -> None:
    """A limit on the size of files is refused by the kernel as a full disk is, mid-write."""
    folder, _ = built(mini, tmp_path / "workspaces")
    before = contents(folder)
    with builder(tmp_path, str(4 << 20)) as process:
        said, _ = process.communicate(timeout=60)
    assert said.startswith("BuildError No room left for ")
    assert "model.gguf" in said
    assert contents(folder) == before
    assert sorted(os.listdir(folder.parent)) == [".declared", "llamacpp"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_file_system(mini: House, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        with pytest.raises(BuildError, match=r"No room left for .*; free some space"):
            built(mini, small / "workspaces")
        assert [p.name for p in (small / "workspaces" / "one").iterdir()] == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_two_builders_at_once(mini: House, tmp_path: Path) -> None:
    """One is held up in the middle until the other waits for it; the other then has no work."""
    workspaces = tmp_path / "workspaces"
    in_the_middle, waits = threading.Event(), threading.Event()

    class Slow(Watching):
        def advance(self, n: int) -> None:
            super().advance(n)
            in_the_middle.set()
            waits.wait(30)

    class Waiting(Watching):
        def task(self, label: str, total_bytes: int | None) -> Watching:
            if "waiting for another hanlin" in label:
                waits.set()
            return super().task(label, total_bytes)

    found: list[tuple[Path, bool]] = []
    first = threading.Thread(target=lambda: found.append(built(mini, workspaces, progress=Slow())))
    first.start()
    assert in_the_middle.wait(30)
    waiting = Waiting()
    assert built(mini, workspaces, progress=waiting) == (workspaces / "one" / "llamacpp", False)
    assert waits.is_set()
    assert len(waiting.labels) == 1
    first.join(60)
    assert found == [(workspaces / "one" / "llamacpp", True)]
