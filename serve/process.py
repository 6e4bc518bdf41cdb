"""Starts child processes that never outlive their parent, and says why they ended.

Every child runs in a session of its own under `serve.guard`, which ends it when this process ends,
however that happens. What it writes goes to a log file. This file knows nothing about what the
programs do.

ProcessError
├── NotStartedError            the program could not be started
└── serve.ports.PortTakenError
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from assistants.errors import HanlinError

GUARD = Path(__file__).with_name("guard.py")
GRACE_SECONDS = 10.0
"""How long a program may take to stop before it is killed."""
GUARD_SECONDS = 2.0
"""How long a guard may take to kill."""
LOG_BYTES = 8 * 2**20
"""How large a log file may become before it is set aside; one older file is kept."""
TAIL_BYTES = 16 * 2**10
LINES_BYTES = 2**20
MANY = 2**20


class ProcessError(HanlinError):
    """A process of ours that cannot start or go on."""


class NotStartedError(ProcessError):
    """The program is missing or the machine refuses to start it."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, and what to add to the environment it runs in."""

    argv: tuple[str, ...]
    env: Mapping[str, str]

    @classmethod
    def python(cls, module: str, *arguments: str) -> Self:
        """A module of this installation, never one that happens to lie in the current folder."""
        argv = (sys.executable, "-P", "-m", module, *arguments)
        return cls(argv, {"PYTHONUNBUFFERED": "1"})


@dataclass(frozen=True, slots=True)
class Log:
    """The file a child writes to."""

    path: Path
    noted: bool = False
    """Whether a line tells of every start and end: what is quiet would leave nothing to be read."""

    def open(self) -> int:
        """A file descriptor that appends, with what an earlier run wrote set aside if large."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.trim()
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, text: str) -> None:
        """Write a line of our own, if such lines are wanted. A full disk ends nothing that runs."""
        if self.noted:
            line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} hanlin: {text}\n"
            with contextlib.suppress(OSError), os.fdopen(self.open(), "wb") as file:
                file.write(line.encode())

    def trim(self) -> None:
        """Copy and truncate a large file: its writer appends, and so goes on at the start."""
        if self.size() > LOG_BYTES:
            with contextlib.suppress(OSError):
                shutil.copyfile(self.path, self.aside)
                os.truncate(self.path, 0)

    @property
    def aside(self) -> Path:
        """Where what was set aside is."""
        return self.path.with_name(f"{self.path.name}.1")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def tail(
        self, lines: int = 20, *, since: int = 0, until: int | None = None, within: int = TAIL_BYTES
    ) -> list[str]:
        """The last lines between the bytes `since` and `until`, of the last `within` bytes."""
        size = self.size() if until is None else min(until, self.size())
        if not size:
            return []
        start = max(since if since <= size else 0, size - within)
        with self.path.open("rb") as file:
            file.seek(start)
            text = file.read(size - start).decode("utf-8", "replace")
        return [line for line in text.splitlines() if line.strip()][-lines:]

    def last(self, lines: int) -> tuple[bytes, int]:
        """The last lines, also of what was set aside, and how far into the file they reach."""
        with self.path.open("rb") as file:
            last = deque(file, lines)
            end = file.tell()
        if len(last) < lines and self.aside.is_file():
            with self.aside.open("rb") as file:
                last.extendleft(reversed(deque(file, lines - len(last))))
        return b"".join(last), end

    def since(self, end: int) -> tuple[bytes, int]:
        """What was written after the byte `end`; a file that is shorter has been set aside."""
        size = self.size()
        if size == end:
            return b"", end
        with self.path.open("rb") as file:
            file.seek(end if end < size else 0)
            return file.read(), file.tell()


class Process:
    """One running child; `start` makes it, `wait` says how it ended, `stop` ends it."""

    def __init__(self, inner: asyncio.subprocess.Process, lifeline: int, log: Log) -> None:
        self._inner = inner
        self._lifeline = lifeline
        self.log = log
        self.log_start = 0
        self._log_end: int | None = None
        self._told_to_end = False

    @classmethod
    async def start(cls, command: Command, log: Log, *, grace: float = GRACE_SECONDS) -> Self:
        """Start a command under a guard.

        Raises:
            NotStartedError: the program is not there, or neither a process nor a log can be had.
        """
        if shutil.which(command.argv[0]) is None:
            raise NotStartedError(f"There is no program {command.argv[0]} on this machine.")
        log.note(f"starts {shlex.join(command.argv)}")
        begins = log.size()
        try:
            inner, lifeline = await _under_guard(command, log, grace)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            problem = f"{command.argv[0]} cannot be started: {error.strerror}{where}."
            raise NotStartedError(problem) from error
        process = cls(inner, lifeline, log)
        process.log_start = begins if begins <= log.size() else 0
        return process

    @property
    def pid(self) -> int:
        """The guard, which leads the child's session."""
        return self._inner.pid

    @property
    def running(self) -> bool:
        return self._inner.returncode is None

    def tail(self, lines: int = 20) -> list[str]:
        """The last lines of this run."""
        return self.log.tail(lines, since=self.log_start, until=self._log_end)

    def lines(self) -> list[str]:
        """What this run has written, but of very much only the end."""
        return self.log.tail(MANY, since=self.log_start, until=self._log_end, within=LINES_BYTES)

    def memory(self) -> int | None:
        """Bytes of memory its session holds; None where this machine does not tell."""
        return resident(self.pid)

    async def wait(self) -> int:
        """The exit code, 128 + N if signal N ended the program; nothing of its session is left."""
        code = await self._inner.wait()
        code = code if code >= 0 else 128 - code
        self._release(code)
        return code

    async def stop(self, grace: float = GRACE_SECONDS) -> int:
        """Ask the session to stop, wait, and kill what is left after `grace` seconds."""
        if self.running:
            self._told_to_end = True
            self._signal(signal.SIGTERM)
            for patience, otherwise in ((grace, self.kill), (GUARD_SECONDS, self.kill_session)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        return await asyncio.shield(self.wait())
                otherwise()
        return await self.wait()

    def kill(self) -> None:
        """End the program now; its guard reaps it."""
        if self._lifeline >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._lifeline, b"K")

    def kill_session(self) -> None:
        """End the program and its guard now, even a guard that is stuck; who reaps is left open."""
        self._signal(signal.SIGKILL)

    def _release(self, code: int) -> None:
        """Kill what the program left in its session, let the lifeline go, and note the end."""
        if self._lifeline >= 0:
            self.kill_session()
            os.close(self._lifeline)
            self._lifeline = -1
            self._log_end = self.log.size()
            self.log.note(
                "it ended as it was told to" if self._told_to_end else f"it {ending(code)}"
            )

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


async def _under_guard(
    command: Command, log: Log, grace: float
) -> tuple[asyncio.subprocess.Process, int]:
    """A guard, which starts the command, and our end of its lifeline."""
    with contextlib.ExitStack() as opened:
        output = log.open()
        opened.callback(os.close, output)
        reading, writing = os.pipe()
        opened.callback(os.close, reading)
        guard = (sys.executable, "-I", "-S", str(GUARD), str(reading), str(grace))
        try:
            inner = await asyncio.create_subprocess_exec(
                *guard,
                *command.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(reading,),
                start_new_session=True,
                env={**os.environ, **command.env},
            )
        except BaseException:
            os.close(writing)
            raise
    return inner, writing


def resident(session: int) -> int | None:
    """Bytes of memory the processes of a session hold, what they share counted for each."""
    pages, found = 0, False
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                pages += int((folder / "statm").read_text().split()[1])
                found = True
        except (OSError, IndexError, ValueError):  # it has just ended
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") if found else None


def ending(code: int) -> str:
    """How a program ended, as the end of a sentence that begins with its name."""
    if code == 128 + signal.SIGKILL:
        return "was killed (SIGKILL), most likely because memory ran out"
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(code - 128).name}"
    return f"ended with exit code {code}"
