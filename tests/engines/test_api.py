"""The engine host's HTTP API as gateways and people use it: keys, room, updates, logs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from serve.engines.api import LONGEST_WAIT, create_app
from serve.ports import listen
from tests.engines.conftest import UNIT, HostOf, Slow, Watched, declare, house_of, is_in, room_for

READY = is_in("ready")


@contextlib.asynccontextmanager
async def over_http(watched: Watched, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    config = uvicorn.Config(create_app(watched.host, key=key), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as sock:
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
                yield client
        finally:
            watched.host.version.close()
            server.should_exit = True
            await serving


async def test_nothing_but_the_health_without_the_key(host_of: HostOf, tmp_path: Path) -> None:
    async with (
        host_of(house_of(tmp_path / "a", "a"), tmp_path, Slow()) as watched,
        over_http(watched, "secret") as http,
    ):
        assert (await http.get("/health")).status_code == 200
        for method, path in (
            ("GET", "/replicas"),
            ("POST", "/assistants/a/start"),
            ("POST", "/assistants/a/update"),
            ("POST", "/assistants/a/stop"),
            ("GET", "/assistants/a/log"),
            ("GET", "/health/"),
        ):
            for headers in ({}, {"Authorization": "Bearer secre"}, {"Authorization": "secret"}):
                refused = await http.request(method, path, headers=headers)
                assert refused.status_code == 401, path
                assert "HANLIN_ENGINES_KEY" in refused.json()["error"]
        assert watched.one()["state"] == "stopped"
        http.headers["Authorization"] = "Bearer secret"
        assert (await http.get("/replicas")).status_code == 200
        assert (await http.post("/assistants/a/start")).status_code == 202


async def test_what_can_never_fit_is_409_with_the_reason(host_of: HostOf, tmp_path: Path) -> None:
    house = house_of(tmp_path / "a", "a")
    async with (
        host_of(house, tmp_path, Slow(), memory=room_for(0)) as watched,
        over_http(watched) as http,
    ):
        answer = await http.post("/assistants/a/start")
        assert answer.status_code == 409
        assert answer.json()["error"].startswith("'a' needs 0.00 GiB, and there is 0.00 GiB;")
        assert watched.one()["state"] == "stopped"


async def test_an_assistant_nobody_declared_is_404_everywhere(
    host_of: HostOf, tmp_path: Path
) -> None:
    async with (
        host_of(house_of(tmp_path / "a", "wishes"), tmp_path, Slow()) as watched,
        over_http(watched) as http,
    ):
        for method, path in (
            ("POST", "start"),
            ("POST", "update"),
            ("POST", "stop"),
            ("GET", "log"),
        ):
            answer = await http.request(method, f"/assistants/wish/{path}")
            assert answer.status_code == 404
            assert "Did you mean 'wishes'" in answer.json()["error"]


async def test_update_and_stop(host_of: HostOf, tmp_path: Path) -> None:
    async with (
        host_of(declare(tmp_path / "a"), tmp_path, Slow()) as watched,
        over_http(watched) as http,
    ):
        await watched.until(READY)
        assert (await http.post("/assistants/wishes/update")).status_code == 202
        await watched.until_all(lambda all_: [r["id"] for r in all_] == ["wishes.2"])
        assert (await http.post("/assistants/wishes/stop")).status_code == 202
        await watched.until(is_in("stopped"))


async def test_a_drain_waits_for_a_gateway_that_has_not_heard_or_has_not_finished(
    host_of: HostOf, tmp_path: Path
) -> None:
    async with (
        host_of(declare(tmp_path / "a"), tmp_path, Slow()) as watched,
        over_http(watched) as http,
    ):
        replica = (await watched.until(READY))["id"]
        said = {"gateway": "g", "busy": "wishes:3"}
        before = (await http.get("/replicas", params=said)).json()["version"]
        await http.post("/assistants/wishes/stop")
        news = (await http.get("/replicas", params={**said, "after": before, "wait": 20})).json()
        assert news["replicas"][0]["state"] == "draining"

        async def still(query: dict[str, str]) -> bool:
            """Whether it is not stopped after this poll."""
            told = await http.get("/replicas", params={"gateway": "g", "wait": "0.4", **query})
            return bool(told.json()["replicas"][0]["state"] == "draining")

        old, new = str(before), str(news["version"])
        assert await still({"after": old, "in_flight": ""})  # has not heard of it
        assert await still({"after": new, "in_flight": f"{replica}:1"})  # has not finished
        assert await still({"after": new, "busy": "wishes:1"})  # does not say where
        await still({"after": new, "in_flight": "", "busy": "wishes:5"})
        await watched.until(is_in("stopped"))


async def test_a_poll_that_would_wait_too_long_waits_as_long_as_it_may(
    host_of: HostOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    async def other_than(version: int, wait: float) -> None:
        waited.append(wait)

    async with (
        host_of(house_of(tmp_path / "a", "a"), tmp_path, Slow()) as watched,
        over_http(watched) as http,
    ):
        monkeypatch.setattr(watched.host.version, "other_than", other_than)
        for wait in ("3600", "inf"):
            assert (await http.get("/replicas", params={"wait": wait})).status_code == 200
    assert waited == [LONGEST_WAIT, LONGEST_WAIT]


async def test_a_poll_that_says_nonsense_is_refused(host_of: HostOf, tmp_path: Path) -> None:
    async with (
        host_of(house_of(tmp_path / "a", "a"), tmp_path, Slow()) as watched,
        over_http(watched) as http,
    ):
        for query in ("busy=a:x", "idle=a:", "in_flight=1:2:z", "after=x", "wait=soon"):
            answer = await http.get(f"/replicas?gateway=g&{query}")
            assert (answer.status_code, "NAME:NUMBER" in answer.text) == (400, True)
        answer = await http.post("/assistants/a/start", content=b'{"busy": 3}')
        assert answer.status_code == 400


async def test_polls_are_short_only_while_somebody_waits_for_room(
    host_of: HostOf, tmp_path: Path
) -> None:
    house = house_of(tmp_path / "a", "a", "b")
    async with (
        host_of(house, tmp_path, Slow(), memory=room_for(1), minimum_stay=600) as watched,
        over_http(watched) as http,
    ):
        await http.post("/assistants/a/start")
        await watched.until(READY, "a")
        version = watched.host.version.number
        poll = {"gateway": "g", "after": str(version), "wait": "30"}
        hanging = asyncio.create_task(http.get("/replicas", params=poll))
        done, _ = await asyncio.wait({hanging}, timeout=0.8)
        assert not done
        await http.post("/assistants/b/start")
        await watched.until(lambda r: bool(r["reason"]), "b")
        await hanging
        poll["after"] = str(watched.host.version.number)
        again = await asyncio.wait_for(http.get("/replicas", params=poll), 10)
        assert again.json()["version"] == int(poll["after"])


async def test_a_gateway_that_is_killed_delays_no_drain(host_of: HostOf, tmp_path: Path) -> None:
    """It had a request in flight and waited for news; its machine closes its connections."""
    async with (
        host_of(declare(tmp_path / "a"), tmp_path, Slow()) as watched,
        over_http(watched) as http,
    ):
        replica = await watched.until(READY)
        said = {"gateway": "g", "in_flight": f"{replica['id']}:1", "busy": "wishes:1"}
        where = http.base_url.host, http.base_url.port
        host = watched.host
        reader, writer = await asyncio.open_connection(*where)
        poll = http.build_request("GET", "/replicas", params=said | {"after": "0", "wait": "1"})
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % poll.url.raw_path)
        await reader.readuntil(b"\r\n\r\n")
        host.stop("wishes")
        said |= {"after": str(host.version.number), "wait": "60"}
        poll = http.build_request("GET", "/replicas", params=said)
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % poll.url.raw_path)
        await watched.until(is_in("draining"))
        writer.close()
        async with asyncio.timeout(20):  # half of what a silent one is waited for
            await watched.until(is_in("stopped"))


async def test_the_log_and_its_end(host_of: HostOf, tmp_path: Path) -> None:
    async with (
        host_of(declare(tmp_path / "a"), tmp_path, Slow("--say=三行\n二\n一")) as watched,
        over_http(watched) as http,
    ):
        await watched.until(READY)
        whole = await http.get("/assistants/wishes/log")
        assert whole.headers["content-type"] == "text/plain; charset=utf-8"
        assert "\n三行\n二\n一\nserving, process " in f"\n{whole.text}"
        assert (await http.get("/assistants/wishes/log?lines=1")).text.startswith("serving")
        assert (await http.get("/assistants/wishes/log?lines=0")).text == ""
        assert (await http.get("/assistants/wishes/log?lines=x")).status_code == 400


async def test_following_a_log_ends_with_the_host(host_of: HostOf, tmp_path: Path) -> None:
    async with (
        host_of(declare(tmp_path / "a"), tmp_path, Slow()) as watched,
        over_http(watched) as http,
    ):
        await watched.until(READY)
        open_still = http.stream("GET", "/assistants/wishes/log?follow=1&lines=0")
        async with open_still as answer:
            watched.host.version.close()  # the host ends, and so does the answer
            assert [line async for line in answer.aiter_lines()] == []


async def test_the_report_says_what_runs_where(host_of: HostOf, tmp_path: Path) -> None:
    house_of(tmp_path / "a", "a", more="pinned: true\n")
    house = house_of(tmp_path / "a", "b")
    async with (
        host_of(house, tmp_path, Slow(), memory=room_for(3)) as watched,
        over_http(watched) as http,
    ):
        await watched.until(READY, "a")
        told = (await http.get("/replicas")).json()
        assert told["devices"] == [
            {"device": 0, "kind": "memory", "memory": 3 * UNIT, "taken": UNIT}
        ]
        a, b = told["replicas"]
        assert (a["devices"], a["pinned"], b["devices"], b["pinned"]) == ([0], True, [], False)
        assert a["memory"] > 2 * UNIT  # what its process holds really
        assert b["memory"] == 0


@pytest.mark.parametrize("text", ["", "8001", "9-8", "0-5", "1-99999", "a-b"])
def test_what_is_no_range_of_ports(text: str) -> None:
    from assistants.errors import HanlinError
    from hanlin.engines import read_ports

    with pytest.raises(HanlinError, match="write it as 41000-41099"):
        read_ports(text)


async def test_what_is_not_built_is_not_refused_but_says_what_to_do(
    host_of: HostOf, tmp_path: Path
) -> None:
    """Nobody can plan for it yet; once it is built another plan is made."""
    house = house_of(tmp_path / "a", "a")
    async with (
        host_of(house, tmp_path, memory=room_for(0)) as watched,
        over_http(watched) as http,
    ):
        assert (await http.post("/assistants/a/start")).status_code == 202
        told = await watched.until(is_in("failed"), "a")
        assert told["reason"].endswith("as soon as hanlin convert a has built one.")
