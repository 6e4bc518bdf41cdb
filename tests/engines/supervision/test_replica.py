"""Supervision with real processes: what dies, hangs or cannot start, and what becomes of it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistants.errors import UnknownAssistantError
from serve.engines.gateways import FORGOTTEN_SECONDS, Told
from tests.engines.conftest import (
    HostOf,
    Script,
    Slow,
    declare,
    exists,
    failed,
    pid_at,
    ready,
)

ANSWERING = """
import http.server, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health)
"""


async def test_ready_means_that_it_answers(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    async with host_of(declare(tmp_path / "a"), workspaces) as watched:
        assert watched.one()["state"] in ("stopped", "starting")
        now = await watched.until(ready)
        async with httpx.AsyncClient(base_url=now["url"], trust_env=False) as client:
            body = {"model": "wishes", "messages": [{"role": "user", "content": "你好"}]}
            answer = await client.post("/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"]
        assert (now["restarts"], now["reason"], now["engine"]) == (0, None, "llamacpp")
        pid = pid_at(now["url"])
    assert not exists(pid)
    assert watched.one()["state"] == "stopped"


async def test_a_killed_engine_is_started_again(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    async with host_of(declare(tmp_path / "a"), workspaces) as watched:
        first = await watched.until(ready)
        os.kill(pid_at(first["url"]), signal.SIGKILL)
        between = await watched.until(lambda r: not ready(r))
        assert between["state"] == "starting"
        assert between["reason"] == (
            "The engine of 'wishes' was killed (SIGKILL), most likely because memory ran out."
        )
        second = await watched.until(ready)
        assert (second["restarts"], second["reason"]) == (1, None)
        assert pid_at(second["url"]) > 0


async def test_a_hung_engine_is_replaced(host_of: HostOf, workspaces: Path, tmp_path: Path) -> None:
    async with host_of(declare(tmp_path / "a"), workspaces, probe_timeout=0.3) as watched:
        first = await watched.until(ready)
        hung = pid_at(first["url"])
        os.kill(hung, signal.SIGSTOP)
        between = await watched.until(lambda r: not ready(r))
        assert "hung (no answer to 3 health checks in a row)" in between["reason"]
        await watched.until(ready)
        assert not exists(hung)


async def test_a_model_that_cannot_be_loaded_fails_with_its_last_words(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "work" / "wishes" / "llamacpp"
    shutil.copytree(workspaces / "wishes" / "llamacpp", broken)
    os.truncate(broken / "model.gguf", 3_000_000)
    async with host_of(declare(tmp_path / "a"), tmp_path / "work") as watched:
        now = await watched.until(failed)
        # llama.cpp writes by a thread of its own: which line comes last is not the same each time.
        told, last = now["reason"].split("; its last line: ")
        assert told == "The engine of 'wishes' ended with exit code 1"
        assert last in "\n".join(now["log"])
        assert any("corrupted or incomplete" in line for line in now["log"])
        assert now["restarts"] == 3
        shutil.copy(workspaces / "wishes" / "llamacpp" / "model.gguf", broken)
        await watched.until(ready)  # still tried, and slowly


async def test_the_hosts_own_log_tells_what_became_of_an_engine(
    host_of: HostOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hanlin.engines")
    weights = tmp_path / "weights"
    engine = Slow(f"--needs={weights}")
    async with host_of(declare(tmp_path / "a"), tmp_path, engine) as watched:
        await watched.until(failed)
        weights.touch()
        await watched.until(ready)
    ended = "The engine of 'wishes' ended with exit code 3."
    said = dict.fromkeys(record.getMessage() for record in caplog.records)
    assert list(said) == [
        "wishes.1 is starting",
        f"wishes.1 is starting: {ended}",
        f"wishes.1 has failed: {ended}",
        "wishes.1 is ready",
        "wishes.1 is finishing its last requests",
        "wishes.1 is stopped",
    ]


async def test_a_missing_workspace_is_found_once_it_is_built(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    async with host_of(declare(tmp_path / "a"), tmp_path / "work") as watched:
        now = await watched.until(failed)
        assert now["reason"].endswith("as soon as hanlin convert wishes has built one.")
        assert (now["restarts"], now["log"], now["url"]) == (0, [], "")
        shutil.copytree(workspaces, tmp_path / "work")
        await watched.until(ready)


async def test_an_engine_on_demand_waits_to_be_asked(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    house = declare(tmp_path / "a", more="start: on_demand\naliases: [blessings]\n")
    async with host_of(house, workspaces) as watched:
        await watched.host.version.other_than(watched.host.version.number, 0.3)
        assert watched.one()["state"] == "stopped"
        watched.host.ask("blessings")
        assert watched.one()["state"] == "starting"
        watched.host.ask("wishes")  # again: no harm
        assert (await watched.until(ready))["restarts"] == 0
        with pytest.raises(UnknownAssistantError, match="Did you mean 'wishes'"):
            watched.host.ask("wish")


async def test_assistants_served_elsewhere_have_no_engine(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    house = declare(tmp_path / "a", more="upstreams: ['http://elsewhere:8000']\n")
    async with host_of(house, workspaces) as watched:
        assert watched.host.report()["replicas"] == []
        with pytest.raises(UnknownAssistantError):
            watched.host.ask("wishes")


async def test_out_of_memory_is_named(host_of: HostOf, tmp_path: Path) -> None:
    dies = Script("import os; print('loading', flush=True); os.kill(os.getpid(), 9)")
    async with host_of(declare(tmp_path / "a"), tmp_path, dies) as watched:
        now = await watched.until(failed)
        assert now["reason"].endswith("most likely because memory ran out; its last line: loading")
        assert now["log"] == ["loading"]


async def test_asking_does_not_cut_a_back_off_short(host_of: HostOf, tmp_path: Path) -> None:
    dies = Script("import sys; sys.exit(1)")
    async with host_of(
        declare(tmp_path / "a"), tmp_path, dies, first_wait=600, longest_wait=600
    ) as watched:
        ended = await watched.until(lambda r: r["restarts"] == 1)
        watched.host.ask("wishes")
        await watched.host.version.other_than(watched.host.version.number, 0.5)
        assert watched.one() == ended


async def test_an_engine_that_never_writes_a_token_is_given_up(
    host_of: HostOf, tmp_path: Path
) -> None:
    slow = Script("import time; time.sleep(600)")
    async with host_of(declare(tmp_path / "a"), tmp_path, slow, load=0.3) as watched:
        now = await watched.until(lambda r: r["reason"] is not None)
        assert "wrote no first token within 0.3 seconds" in now["reason"]


async def test_an_engine_that_will_not_end_is_killed(host_of: HostOf, tmp_path: Path) -> None:
    ignoring = ANSWERING + (
        "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True)\nserver.serve_forever()"
    )
    async with host_of(declare(tmp_path / "a"), tmp_path, Script(ignoring), grace=0.2) as watched:
        pid = int((await watched.until(ready))["log"][0])
    assert not exists(pid)


async def test_requests_in_flight_finish_before_the_engine_stops(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        async with host_of(declare(tmp_path / "a"), workspaces, drain=60) as watched:
            url = (await watched.until(ready))["url"]
            body = {"prompt": "春", "max_tokens": 700, "ignore_eos": True, "stream": True}
            request = client.build_request("POST", f"{url}/v1/completions", json=body)
            answer = await client.send(request, stream=True)
            lines = answer.aiter_lines()
            assert await anext(lines)
            states = asyncio.create_task(seen(watched))
        rest = [line async for line in lines]
        await answer.aclose()
    assert rest[-2:] == ["data: [DONE]", ""] or rest[-1] == "data: [DONE]"
    assert "draining" in await states


async def test_a_host_that_ends_does_not_wait_until_gateways_have_heard_of_it(
    host_of: HostOf, tmp_path: Path
) -> None:
    """A gateway may have gone before; for longer than this a silent one would be waited for."""
    async with (
        asyncio.timeout(None) as patience,
        host_of(declare(tmp_path / "a"), tmp_path, Slow(), drain=600) as watched,
    ):
        await watched.until(ready)
        watched.host.hear(Told(gateway="g", knows=1))
        patience.reschedule(asyncio.get_running_loop().time() + FORGOTTEN_SECONDS / 2)


async def seen(watched: Any) -> list[str]:
    """The states until it is stopped."""
    states: list[str] = []
    while not states or states[-1] != "stopped":
        states.append(watched.one()["state"])
        if states[-1] != "stopped":
            await watched.host.version.other_than(watched.host.version.number, 60)
    return states
