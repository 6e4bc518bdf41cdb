"""A small house of two assistants on the embedded base, and the command run as a person would."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HANLIN = (sys.executable, "-m", "hanlin")


@dataclass
class Run:
    """One `hanlin` command that is running."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def until(self, *texts: str) -> str:
        """Read what it prints until each of these texts, in whatever order, was in a line; returns
        the line that had the first."""
        assert self.process.stdout
        found: dict[str, str] = {}
        async with asyncio.timeout(90):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line.rstrip("\n"))
                found |= {text: line for text in texts if text in line}
                if len(found) == len(texts):
                    return found[texts[0]]
        raise AssertionError("\n".join(self.lines))

    async def end(self) -> tuple[int, str, str]:
        out, err = await asyncio.wait_for(self.process.communicate(), 90)
        return self.process.returncode or 0, out.decode(), err.decode()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


Hanlin = Callable[..., Awaitable[Run]]


@pytest.fixture
async def hanlin(tmp_path: Path) -> AsyncIterator[Hanlin]:
    """Runs the command in an empty folder; what is left at the end is killed."""
    runs: list[Run] = []

    async def start(*arguments: str, cwd: Path = tmp_path) -> Run:
        process = await asyncio.create_subprocess_exec(
            *HANLIN,
            *arguments,
            cwd=cwd,
            env={**os.environ, "COLUMNS": "100", "LANG": "C.UTF-8"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        runs.append(Run(process))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.returncode is None:
            run.process.kill()
            await run.process.communicate()


def family(root: int) -> set[int]:
    """The processes that came from `root`, and are no zombies."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def alive(pids: set[int]) -> set[int]:
    """Which of these still run."""
    left = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                left.add(pid)
        except OSError:
            continue
    return left


def words(pid: int) -> list[str]:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def part(root: int, word: str) -> int:
    """The process below `root` that has `word` on its command line and is no guard."""
    (found,) = [pid for pid in family(root) if word in words(pid) and "-I" not in words(pid)]
    return found


async def none_left(pids: set[int]) -> None:
    async with asyncio.timeout(25):
        while alive(pids):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `assistants/` and, once something has run there, `workspaces/`."""
    root = tmp_path_factory.mktemp("house")
    folder = root / "assistants"
    folder.mkdir()
    for name in ("wishes", "poetry"):
        text = (
            f"name: {name}\ntitle: {{zh: 题, en: Title of {name}}}\ndescription: Says things.\n"
            "sampling: {temperature: 0, max_tokens: 16}\nexamples: [祝姐姐生日快乐]\n"
            "model: {base: hanlin-mini}\n"
        )
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return root
