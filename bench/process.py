"""One command from its start to its end: wall time, CPU time and memory of all its processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import psutil

_EVERY = 0.05
"""Seconds between two looks at the memory of the processes; the kernel's own peak of the largest
one misses nothing, but knows one process only."""


def end_well() -> None:
    """Have SIGTERM end the run as Ctrl-C does: whatever was started is stopped first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took."""

    seconds: float
    cpu: float
    peak: float
    """MiB; pages that processes share count for each."""
    problem: str = ""
    """How it ended, where it left no result."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is run, and where its result should be."""

    arguments: Sequence[str]
    folder: Path
    result: Path | None = None
    environment: Mapping[str, str] | None = None

    def run(self, limit: float) -> Usage:
        """Run it; stopped after `limit` seconds."""
        log = self.folder / "log"
        with log.open("wb") as output:
            started = time.perf_counter()
            process = subprocess.Popen(
                self.arguments, cwd=self.folder, env={**os.environ, **(self.environment or {})},
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            watch = _Watch(process.pid, limit)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            watch.stop()
        peak = max(watch.peak, usage.ru_maxrss * 1024) / 2**20
        problem = self._problem(process.returncode, log)
        if watch.stopped:
            problem = f"stopped after {limit:.0f} s"
        return Usage(seconds, usage.ru_utime + usage.ru_stime, peak, problem)

    def _problem(self, code: int, log: Path) -> str:
        """Exit codes are not believed: a result that is not there is a failure."""
        there = self.result is None or any(
            path.suffix in (".safetensors", ".bin") for path in self.result.glob("*")
        )
        if there and not code:
            return ""
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        said = re.sub(r"\S*/", "", next((line for line in reversed(lines) if line), "nothing"))
        return f"{'exit code' if code >= 0 else 'killed by signal'} {abs(code)}: {said[:100]}"


class _Watch:
    """Adds up the memory of a process and its descendants while it runs."""

    def __init__(self, pid: int, limit: float) -> None:
        self.peak = 0
        self.stopped = False
        self._over = Event()
        self._thread = Thread(target=self._look, args=(pid, time.monotonic() + limit))
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self, pid: int, deadline: float) -> None:
        while not self._over.wait(_EVERY):
            self.peak = max(self.peak, _memory(pid))
            if time.monotonic() > deadline and not self.stopped:
                self.stopped = True
                with suppress(ProcessLookupError):  # it has just ended
                    os.killpg(pid, signal.SIGKILL)


def _memory(pid: int) -> int:
    total = 0
    try:
        first = psutil.Process(pid)
        for process in (first, *first.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.Error:  # it ended while it was looked at
        pass
    return total
