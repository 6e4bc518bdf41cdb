"""`hanlin status`: of a real house, of parts of one, and of what a real one seldom shows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hanlin.__main__ import main
from hanlin.client.running import FILE, Running, left
from hanlin.client.status import Asking
from hanlin.client.target import Target, client
from tests.hanlin.conftest import Hanlin, Run
from tests.hanlin.house_stub import HouseStub, replica
from tests.ports import free_port


@pytest.fixture
async def up(hanlin: Hanlin, house: Path) -> AsyncIterator[tuple[Run, str]]:
    port = free_port()
    run = await hanlin("up", "--no-ui", f"--port={port}", cwd=house)
    await run.until("Ctrl-C stops everything")
    yield run, f"http://127.0.0.1:{port}"
    if run.process.returncode is None:
        run.signal(signal.SIGINT)
        await run.end()


@pytest.fixture
async def stub() -> AsyncIterator[HouseStub]:
    async with HouseStub().running() as stub:
        yield stub


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


Status = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str]) -> Status:
    """The command in this process, beside the servers that it asks."""

    async def run(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, ["status", *arguments])
        return code, *capsys.readouterr()

    return run


async def as_json(status: Status, *arguments: str) -> Any:
    code, out, err = await status("--json", *arguments)
    assert (code, err) == (0, "")
    return json.loads(out)


async def test_a_house_that_is_up_is_found_and_told_of(
    status: Status, house: Path, up: tuple[Run, str]
) -> None:
    run, gateway = up
    code, out, err = await status(f"--workspaces={house / 'workspaces'}")
    assert (code, err) == (0, "")
    assert f"Gateway      {gateway}  ready" in out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith(("wish", "poet"))] == [
        ["poetry", "ready"],
        ["wishes", "ready"],
    ]
    told = await as_json(status, f"--workspaces={house / 'workspaces'}")
    none = {"problem": None, "declarations": None}
    assert told["gateway"] == {"url": gateway, "state": "ready", **none}
    assert told["engines"]["problem"] is None
    wishes = told["assistants"][1]
    assert (wishes["assistant"], wishes["state"], wishes["in_flight"]) == ("wishes", "ready", 0)
    assert (wishes["tokens_per_second"], wishes["time_to_first_token"]) == (0, None)
    (engine,) = wishes["replicas"]
    assert (engine["engine"], engine["restarts"]) == ("llamacpp", 0)
    assert engine["url"].startswith("http://127.0.0.1:")
    assert told["rate_seconds"] >= 1

    file = house / "workspaces" / ".logs" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    run.signal(signal.SIGINT)
    assert (await run.end())[0] == 0
    assert not file.exists()
    assert not list(file.parent.glob(f".{FILE}*"))


async def test_tokens_of_streams_are_seen_while_they_run(
    status: Status, house: Path, up: tuple[Run, str]
) -> None:
    """Three clients are answered again and again, so there is always a stream under way: answers
    of one length would begin and end together, and between them there would be none."""
    leave, begun = asyncio.Event(), asyncio.Event()
    asked = {
        "model": "wishes",
        "messages": [{"role": "user", "content": "祝姐姐生日快乐"}],
        "stream": True,
        "ignore_eos": True,
    }

    async def keep_busy(tokens: int) -> None:
        body = {**asked, "max_tokens": tokens}
        async with httpx.AsyncClient(base_url=up[1], timeout=60, trust_env=False) as http:
            while not leave.is_set():
                async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                    async for _ in answer.aiter_raw():
                        begun.set()

    async with asyncio.TaskGroup() as clients:
        for tokens in (200, 157, 113):
            clients.create_task(keep_busy(tokens))
        await begun.wait()
        told = await as_json(status, f"--workspaces={house / 'workspaces'}")
        leave.set()
    poetry, wishes = told["assistants"]
    assert 1 <= wishes["in_flight"] <= 3
    assert wishes["tokens_per_second"] > 0
    assert (poetry["in_flight"], poetry["tokens_per_second"]) == (0, 0)
    told = await as_json(status, f"--workspaces={house / 'workspaces'}")
    first = told["assistants"][1]["time_to_first_token"]
    assert first["count"] >= 3
    assert first["mean"] > 0


async def test_it_is_watched_until_ctrl_c(hanlin: Hanlin, house: Path, up: tuple[Run, str]) -> None:
    run = await hanlin("status", "--watch", "--json", cwd=house)
    assert run.process.stdout
    seen = [json.loads(await run.process.stdout.readline()) for _ in range(2)]
    run.signal(signal.SIGINT)
    code, _, err = await run.end()
    assert (code, err) == (0, "")
    assert [len(now["assistants"]) for now in seen] == [2, 2]
    assert [now["rate_seconds"] is None for now in seen] == [True, False]


async def test_without_anything_it_is_one_sentence(status: Status) -> None:
    gateway, engines = nowhere(), nowhere()
    named = (f"--gateway={gateway}", f"--engines={engines}")
    for more in ((), ("--json",), ("--watch",)):
        code, out, err = await status(*named, *more)
        assert (code, out) == (1, "")
        assert err == (
            f"Nothing is up: no gateway answers at {gateway} and no engine host at {engines}; "
            "start them with hanlin up, or name them with --gateway and --engines.\n"
        )


async def test_a_house_that_is_on_its_way_is_told_of(status: Status, tmp_path: Path) -> None:
    coming = Running(pid=os.getpid(), gateway=nowhere(), engines=nowhere())
    with left(coming, tmp_path / ".logs"):
        code, out, err = await status(f"--workspaces={tmp_path}")
    assert (code, out) == (1, "")
    assert err.startswith(f"hanlin up (process {os.getpid()}) is on its way, but neither")


async def test_without_the_gateway_the_engines_are_told(status: Status, stub: HouseStub) -> None:
    stub.replicas, gateway = [replica("wishes"), replica("exam", "failed")], nowhere()
    named = (f"--gateway={gateway}", f"--engines={stub.url}")
    code, out, err = await status(*named)
    assert (code, err) == (0, "")
    assert f"No gateway answers at {gateway}." in out
    told = await as_json(status, *named)
    assert [a["state"] for a in told["assistants"]] == ["ready", "failed"]
    assert told["assistants"][0]["in_flight"] is None
    assert told["assistants"][0]["replicas"][0]["memory"] == 9 * 2**30


async def test_without_the_engine_host_the_gateway_is_told(status: Status, stub: HouseStub) -> None:
    stub.states, engines = {"wishes": "ready"}, nowhere()
    stub.metrics = 'hanlin_in_flight{assistant="wishes"} 3.0\n'
    told = await as_json(status, f"--gateway={stub.url}", f"--engines={engines}")
    assert told["engines"]["problem"] == f"No engine host answers at {engines}."
    (wishes,) = told["assistants"]
    assert (wishes["in_flight"], wishes["replicas"], wishes["elsewhere"]) == (3, [], False)
    assert "/replicas" not in stub.asked
    told = await as_json(status, f"--gateway={stub.url}")
    assert told["engines"]["url"] is None
    assert "name it with --engines" in told["engines"]["problem"]


@pytest.mark.parametrize("given", ["", "HANLIN_ENGINES_KEY", "HANLIN_ENGINES_KEY_FILE"])
async def test_the_engine_host_is_given_its_key(
    status: Status,
    stub: HouseStub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
) -> None:
    stub.key, stub.replicas = "k-1", [replica("wishes")]
    (tmp_path / "key").write_text("k-1\n")
    if given:
        monkeypatch.setenv(given, str(tmp_path / "key") if given.endswith("FILE") else "k-1")
    told = await as_json(status, f"--gateway={stub.url}", f"--engines={stub.url}")
    if given:
        assert told["engines"]["problem"] is None
        assert told["assistants"][0]["replicas"]
    else:
        assert told["engines"]["problem"] == (
            f"The engine host at {stub.url} wants another key; set HANLIN_ENGINES_KEY to it."
        )


async def test_what_is_something_else_is_called_so(status: Status, stub: HouseStub) -> None:
    stub.states, stub.metrics = {"wishes": "ready"}, "<html>"
    told = await as_json(status, f"--gateway={stub.url}", f"--engines={stub.url}/v1")
    assert (
        told["engines"]["problem"] == f"What answers at {stub.url}/v1 is no engine host (HTTP 404)."
    )
    assert told["gateway"]["state"] == "ready"
    assert told["gateway"]["problem"].endswith("tells no numbers.")
    code, _, err = await status("--gateway=localhost:8000")
    assert (code, err) == (1, "'localhost:8000' is no URL; one is like http://127.0.0.1:8000.\n")


async def test_between_two_gateways_there_is_no_rate(stub: HouseStub) -> None:
    """One that was started anew counts from nothing: a rate needs two readings of that one."""
    stub.states = {"wishes": "ready"}
    async with client(stub.url, None) as gateway, client(stub.url, None) as engines:
        asking = Asking(Target(stub.url, stub.url), gateway, engines)
        rates = []
        for tokens in (1000, 1060, 20, 80):
            stub.metrics = f'hanlin_tokens_total{{assistant="wishes",direction="out"}} {tokens}\n'
            (wishes,) = (await asking.look()).assistants
            rates.append(wishes.tokens_per_second)
    assert [rate is None for rate in rates] == [True, False, True, False]
    assert all(rates[1::2])
