"""`hanlin logs`: from the folder, from the engine host, and until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from serve.process import Log
from tests.hanlin.conftest import HANLIN, Hanlin, Run
from tests.hanlin.house_stub import HouseStub, replica
from tests.ports import free_port


@pytest.fixture
async def stub() -> AsyncIterator[HouseStub]:
    async with HouseStub().running() as stub:
        stub.replicas = [replica("wishes"), replica("poetry")]
        yield stub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where `hanlin logs` looks when it is run in `tmp_path`."""
    folder = tmp_path / "workspaces" / ".logs"
    folder.mkdir(parents=True)
    return folder


def nobody() -> str:
    return f"--engines=http://127.0.0.1:{free_port()}"


async def ended(run: Run) -> tuple[int, str, str]:
    return await run.end()


async def line(run: Run) -> str:
    assert run.process.stdout
    return (await asyncio.wait_for(run.process.stdout.readline(), 30)).decode()


async def test_of_a_house_that_is_up(hanlin: Hanlin, house: Path) -> None:
    port = free_port()
    (house / "workspaces/.logs/page.log").unlink(missing_ok=True)  # of another test
    up = await hanlin("up", "--no-ui", f"--port={port}", cwd=house)
    await up.until("Ctrl-C stops everything")
    followed = await hanlin("logs", "gateway", "--follow", "--lines=0", cwd=house)
    # It has begun when what is written from now on is shown; there is nothing else to see of it.
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        reading = asyncio.ensure_future(line(followed))
        while not reading.done():
            await http.post("/v1/chat/completions", json={"model": "nobody", "messages": []})
            await asyncio.wait([reading], timeout=0.2)
    assert '"status":404' in reading.result()
    followed.signal(signal.SIGINT)
    code, _, err = await followed.end()
    assert (code, err) == (0, "")
    code, _, err = await ended(await hanlin("logs", "wishes", cwd=house))
    assert (code, err) == (0, "")  # llama.cpp has little to say
    code, out, err = await ended(await hanlin("logs", "wishs", cwd=house))
    assert (code, out) == (1, "")
    assert err == (
        "There is no log of 'wishs'. Did you mean 'wishes'? "
        "There are those of poetry, wishes, gateway, page, engines.\n"
    )
    code, out, err = await ended(await hanlin("logs", "page", cwd=house))
    assert (code, out) == (1, "")
    assert err.startswith("There is no workspaces/.logs/page.log: hanlin up leaves it there;")
    up.signal(signal.SIGINT)
    await up.end()


async def test_the_engine_host_is_asked_first(
    hanlin: Hanlin, stub: HouseStub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "engine-wishes.log").write_text("from the folder\n")
    stub.key, stub.log = "k-1", [b"one\n", "二\n".encode(), b"three\n"]
    monkeypatch.setenv("HANLIN_ENGINES_KEY", "k-1")
    monkeypatch.setenv("HANLIN_ENGINES", stub.url)
    assert await ended(await hanlin("logs", "wishes", "--lines=2")) == (0, "二\nthree\n", "")
    assert stub.asked == ["/assistants/wishes/log?lines=2"]
    monkeypatch.delenv("HANLIN_ENGINES_KEY")
    assert await ended(await hanlin("logs", "wishes")) == (0, "from the folder\n", "")
    code, out, err = await ended(await hanlin("logs", "poetry"))
    assert (code, out) == (1, "")
    assert err == (
        f"The engine host at {stub.url} wants another key; set HANLIN_ENGINES_KEY to it. "
        "There is no log of 'poetry'. There are those of wishes, gateway, page, engines.\n"
    )


async def test_lines_of_the_host_come_as_they_are_written(hanlin: Hanlin, stub: HouseStub) -> None:
    run = await hanlin("logs", "wishes", "--follow", f"--engines={stub.url}")
    for number in range(3):
        stub.more.put_nowait(b"line %d\n" % number)
        assert await line(run) == f"line {number}\n"
    run.signal(signal.SIGINT)
    assert await run.end() == (0, "", "")


async def test_a_host_that_goes_is_told_of(hanlin: Hanlin) -> None:
    async with HouseStub().running() as stub:
        stub.replicas = [replica("wishes")]
        run = await hanlin("logs", "wishes", "--follow", f"--engines={stub.url}")
        stub.more.put_nowait(b"the last\n")
        assert await line(run) == "the last\n"
    code, out, err = await run.end()
    assert (code, out) == (1, "")
    assert err == f"The engine host at {stub.url} has gone.\n"


@pytest.mark.parametrize(("name", "like"), [("wishs", "wishes"), ("gatway", "gateway")])
async def test_a_name_that_is_none_gets_the_nearest(
    hanlin: Hanlin, stub: HouseStub, folder: Path, name: str, like: str
) -> None:
    told = f"There is no log of '{name}'. Did you mean '{like}'? There are those of "
    code, out, err = await ended(await hanlin("logs", name, f"--engines={stub.url}"))
    assert (code, out, err) == (1, "", f"{told}wishes, poetry, gateway, page, engines.\n")
    (folder / "engine-wishes.log").write_text("a\n")
    code, out, err = await ended(await hanlin("logs", name, nobody()))
    assert (code, out) == (1, "")
    assert err.endswith(f" {told}wishes, gateway, page, engines.\n")


async def test_without_host_and_without_logs_it_is_one_sentence(hanlin: Hanlin) -> None:
    engines = nobody()
    code, out, err = await ended(await hanlin("logs", "wishes", engines))
    assert (code, out) == (1, "")
    url = engines.removeprefix("--engines=")
    assert err == (
        f"No engine host answers at {url}. Nor has an engine left a log in workspaces/.logs.\n"
    )


async def test_a_file_is_followed_past_its_being_set_aside(hanlin: Hanlin, folder: Path) -> None:
    file = folder / "engine-wishes.log"
    file.write_text("one\ntwo\n")
    run = await hanlin("logs", "wishes", "--follow", "--lines=1", nobody())
    assert await line(run) == "two\n"
    with file.open("a") as log:
        log.write("three\n")
    assert await line(run) == "three\n"
    os.truncate(file, 0)
    with file.open("a") as log:
        log.write("new\n")
    assert await line(run) == "new\n"
    run.signal(signal.SIGINT)
    assert await run.end() == (0, "", "")


async def test_two_engines_of_one_assistant_left_a_log_each(hanlin: Hanlin, folder: Path) -> None:
    (folder / "engine-wishes+2.log").write_text("b\n")
    (folder / "engine-wishes.log").write_text("a\n")
    os.utime(folder / "engine-wishes+2.log", (1, 1))
    (folder / "engine-wishes.1.log").write_text("of the assistant 'wishes.1'\n")
    code, out, err = await ended(await hanlin("logs", "wishes", nobody()))
    assert (code, err) == (0, "")
    assert out == "==> engine-wishes+2.log <==\nb\n==> engine-wishes.log <==\na\n"


def test_the_last_lines_are_also_those_set_aside(folder: Path) -> None:
    log = Log(folder / "engine-wishes.log")
    log.path.write_bytes(b"c\nd\n")
    (folder / "engine-wishes.log.1").write_bytes(b"a\nb\n")
    assert log.last(3) == (b"b\nc\nd\n", 4)
    assert log.last(1) == (b"d\n", 4)
    assert log.last(0) == (b"", 4)
    assert log.last(9) == (b"a\nb\nc\nd\n", 4)


def test_whoever_reads_may_stop(folder: Path, tmp_path: Path) -> None:
    (folder / "gateway.log").write_text("a line that is long enough\n" * 100_000)
    command = [*HANLIN, "logs", "gateway", "--lines=100000"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout
        assert run.stderr
        assert run.stdout.readline() == b"a line that is long enough\n"
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 0
