"""Children that end with their parent and say why they ended, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from serve.process import GUARD, LOG_BYTES, Command, Log, NotStartedError, Process, ending

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(600)"
)
PARENT = """
import asyncio, sys
from pathlib import Path
from serve.process import Command, Log, Process
async def main():
    child = Command((sys.executable, "-c", sys.argv[2]), {})
    await Process.start(child, Log(Path(sys.argv[1])), grace=0.2)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def script(text: str) -> Command:
    return Command((sys.executable, "-c", text), {})


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie of another parent counts)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while not gone(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def first_line(log: Log) -> str:
    async with asyncio.timeout(20):
        while not log.tail():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return log.tail()[0]


async def own_child(pid: int) -> int:
    """The first child of a process, once it has one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    async with asyncio.timeout(20):
        while not (found := children.read_text().split()):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)
    return int(found[0])


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "logs" / "child.log")


async def test_what_it_writes_and_its_exit_code(log: Log) -> None:
    process = await Process.start(
        script("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), log
    )
    assert await process.wait() == 3
    assert sorted(process.tail()) == ["err", "out"]


async def test_the_tail_is_of_this_run_only(log: Log) -> None:
    for word in ("first", "second"):
        process = await Process.start(script(f"print('{word}')"), log)
        await process.wait()
    assert process.tail() == ["second"]
    assert log.tail() == ["first", "second"]


async def test_starts_and_ends_are_noted_where_that_is_wanted(log: Log) -> None:
    """And are no part of what the program itself is said to have written."""
    noted = Log(log.path, noted=True)
    quiet = await Process.start(script("import sys; sys.exit(3)"), noted)
    assert await quiet.wait() == 3
    assert (quiet.tail(), quiet.lines()) == ([], [])
    asleep = await Process.start(script("import time; time.sleep(60)"), noted)
    await asleep.stop()
    told = [line.split(" hanlin: ")[1] for line in noted.tail()]
    assert [line for line in told if not line.startswith("starts ")] == [
        "it ended with exit code 3",
        "it ended as it was told to",
    ]
    assert len(told) == 4
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


async def test_a_killed_program_is_known_as_one(log: Log) -> None:
    process = await Process.start(script("import os; os.kill(os.getpid(), 9)"), log)
    code = await process.wait()
    assert code == 137
    assert "memory ran out" in ending(code)


async def test_a_missing_program_is_one_sentence(log: Log) -> None:
    with pytest.raises(NotStartedError, match="There is no program no-such-thing"):
        await Process.start(Command(("no-such-thing",), {}), log)


async def test_stop_kills_what_will_not_end(log: Log) -> None:
    process = await Process.start(script(STUBBORN), log)
    await first_line(log)
    assert await process.stop(0.2) == 137
    assert not process.running


TOLD_TOO_EARLY = """
import os, runpy, signal, sys
spawn = os.posix_spawnp
def told_before(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    return spawn(*arguments)
os.posix_spawnp = told_before
guard = runpy.run_path(sys.argv[1])
reading, writing = os.pipe()
sys.exit(guard["main"]([str(reading), "60", "sleep", "600"]))
"""


async def test_a_guard_told_to_stop_before_its_program_runs_tells_it() -> None:
    guard = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TOLD_TOO_EARLY, str(GUARD)), start_new_session=True
    )
    assert await asyncio.wait_for(guard.wait(), 30) == 143


async def test_it_has_a_session_of_its_own(log: Log) -> None:
    process = await Process.start(script("import os; print(os.getsid(0))"), log)
    await process.wait()
    assert int(log.tail()[0]) == process.pid != os.getsid(0)


async def test_nothing_of_its_session_outlives_it(log: Log) -> None:
    grandchild = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    process = await Process.start(script(grandchild), log)
    await process.wait()
    await until_gone(int(log.tail()[0]))


async def parent_of(child: str, log: Log) -> tuple[asyncio.subprocess.Process, int]:
    """A parent process, and its child's id once the child runs."""
    text = f"import os; print(os.getpid(), flush=True)\n{child}"
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, str(log.path), text)
    return parent, int(await first_line(log))


async def test_it_ends_when_its_parent_is_killed(log: Log) -> None:
    parent, child = await parent_of("import time; time.sleep(600)", log)
    parent.kill()
    await parent.wait()
    await until_gone(child)


async def test_even_one_that_ignores_it_ends_with_its_parent(log: Log) -> None:
    parent, child = await parent_of(STUBBORN, log)
    parent.kill()
    await parent.wait()
    await until_gone(child)


async def test_its_own_children_end_with_its_parent(log: Log) -> None:
    stubborn = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])"
    parent, child = await parent_of(f"{stubborn}; import time; time.sleep(600)", log)
    grandchild = await own_child(child)
    parent.kill()
    await parent.wait()
    await until_gone(child)
    await until_gone(grandchild)


async def test_even_one_that_is_stopped_ends_with_its_parent(log: Log) -> None:
    parent, child = await parent_of("import time; time.sleep(600)", log)
    os.kill(child, signal.SIGSTOP)
    parent.kill()
    await parent.wait()
    await until_gone(child)


async def test_when_the_guard_is_killed_its_program_goes_too(log: Log) -> None:
    process = await Process.start(
        script("import os, time; print(os.getpid(), flush=True); time.sleep(600)"), log
    )
    child = int(await first_line(log))
    os.kill(process.pid, signal.SIGKILL)
    assert await process.wait() == 137
    await until_gone(child)


def test_a_large_log_is_set_aside_and_its_writer_goes_on(log: Log) -> None:
    file = log.open()
    os.write(file, b"x" * (LOG_BYTES + 1))
    log.trim()
    os.write(file, b"new\n")
    os.close(file)
    assert log.path.read_bytes() == b"new\n"
    assert log.aside.stat().st_size == LOG_BYTES + 1


def test_endings_in_words() -> None:
    assert ending(1) == "ended with exit code 1"
    assert ending(139) == "was ended by SIGSEGV"
    assert ending(250) == "ended with exit code 250"


async def test_the_memory_it_holds(log: Log) -> None:
    """Of all its session: a program of its own making counts too."""
    holds = "b = bytearray(50_000_000); print('held', flush=True); import time; time.sleep(600)"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holds!r}])"
    process = await Process.start(script(starts), log)
    await first_line(log)
    held = process.memory()
    if held is None:
        pytest.skip("this machine does not tell what a process holds")
    assert 50_000_000 < held < 500_000_000
    await process.stop(5)
    assert not process.memory()
