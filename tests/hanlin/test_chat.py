"""`hanlin chat`, piped: against a real house, and without one."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hanlin.client.chat import introduction
from tests.engine_stub import EngineStub, Plan
from tests.hanlin.conftest import Hanlin
from tests.ports import free_port


@pytest.fixture
async def gateway(hanlin: Hanlin, house: Path) -> AsyncIterator[str]:
    port = free_port()
    run = await hanlin("up", "--no-ui", f"--port={port}", cwd=house)
    await run.until("Ctrl-C stops everything")
    yield f"http://127.0.0.1:{port}"
    run.signal(signal.SIGINT)
    await run.end()


async def say(
    hanlin: Hanlin, name: str, gateway: str | None, typed: str, *, cwd: Path | None = None
) -> tuple[int, str, str]:
    named = (f"--gateway={gateway}",) if gateway else ()
    run = await hanlin("chat", name, *named, **({"cwd": cwd} if cwd else {}))
    assert run.process.stdin
    run.process.stdin.write(typed.encode())
    run.process.stdin.close()
    return await run.end()


async def test_piped(hanlin: Hanlin, gateway: str) -> None:
    code, out, err = await say(hanlin, "wishes", gateway, "祝姐姐生日快乐\nEXIT\nnever sent\n")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
    assert out.strip()

    code, out, err = await say(hanlin, "wish", gateway, "EXIT\n")
    assert (code, out) == (1, "")
    assert "Did you mean 'wishes'" in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("gateway")
async def test_it_finds_the_house_that_is_up_here(hanlin: Hanlin, house: Path) -> None:
    """It listens on a port of its own choice, and nothing is named."""
    code, out, err = await say(hanlin, "wishes", None, "祝姐姐生日快乐\n", cwd=house)
    assert (code, err) == (0, "")
    assert out.strip()


async def test_without_a_gateway_it_says_how_to_start_one(hanlin: Hanlin) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, out, err = await say(hanlin, "wishes", url, "")
    assert (code, out) == (1, "")
    assert err == (
        f"No gateway answers at {url}; start one with hanlin up, or name it with --gateway.\n"
    )


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
async def test_a_stray_byte_ends_no_conversation(
    hanlin: Hanlin, monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    """Python stops at one, or makes of it what no request can carry, as the locale has it."""
    monkeypatch.setenv("PYTHONIOENCODING", f"utf-8:{errors}")
    stub = EngineStub()
    async with stub.running():
        run = await hanlin("chat", "wishes", f"--gateway={stub.url}")
        assert run.process.stdin
        run.process.stdin.write(b"\xff\nEXIT\n")
        run.process.stdin.close()
        code, out, err = await run.end()
    assert (code, err) == (0, "")
    assert out.strip()


async def test_a_conversation_goes_on_until_it_is_reset(hanlin: Hanlin) -> None:
    stub = EngineStub()
    async with stub.running():
        code, out, err = await say(hanlin, "wishes", stub.url, "一\n二\nreset\n三\n")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3
    said = [[turn["role"] for turn in seen.json["messages"]] for seen in stub.requests if seen.body]
    assert said == [["user"], ["user", "assistant", "user"], ["user"]]


async def test_ctrl_c_stops_an_answer_and_not_the_conversation(hanlin: Hanlin) -> None:
    stub = EngineStub()
    async with stub.running():
        run = await hanlin("chat", "wishes", f"--gateway={stub.url}")
        assert run.process.stdin
        assert run.process.stdout
        await stub.until(lambda s: s.requests)  # it has asked who the assistant is
        stub.plan = Plan(tokens=9, hang="middle", die_after=2)
        run.process.stdin.write("一\n".encode())
        await run.process.stdout.readexactly(1)
        stub.plan = Plan(tokens=3)
        run.signal(signal.SIGINT)
        await stub.until(lambda s: s.aborted)
        run.process.stdin.write("二\nEXIT\n".encode())
        code, out, err = await run.end()
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2
    said = [turn["role"] for turn in stub.requests[-1].json["messages"]]
    assert said == ["user", "assistant", "user"]


@pytest.fixture(scope="session")
def late_sigint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What sends SIGINT when it is most easily lost."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux: the moment is between two system calls")
    library = tmp_path_factory.mktemp("late") / "late_sigint.so"
    source = Path(__file__).with_name("late_sigint.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


async def test_ctrl_c_is_not_lost_when_it_comes_just_before_the_wait(
    hanlin: Hanlin, late_sigint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine says no more, so nothing but the signal could wake what waits for it."""
    stub = EngineStub(Plan(tokens=9, hang="middle", die_after=2))
    async with stub.running():
        monkeypatch.setenv("LD_PRELOAD", str(late_sigint))
        run = await hanlin("chat", "wishes", f"--gateway={stub.url}")
        assert run.process.stdin
        run.process.stdin.write("一\nEXIT\n".encode())
        async with asyncio.timeout(30):
            await stub.until(lambda s: s.aborted)
        assert await run.end() == (0, "word0 word1 \n", "")


def test_the_introduction_speaks_the_language_of_the_terminal() -> None:
    about = {
        "title": {"zh": "题", "en": "Title"},
        "description": {"zh": "述", "en": "Text"},
        "examples": ["甲"],
    }
    assert introduction(about, "zh_CN") == ["题", "述", "· 甲"]
    assert introduction(about, "en_GB") == ["Title", "Text", "· 甲"]
    assert introduction({}, "en") == []
