"""Faults an engine has once a month, on purpose: what hangs, lies, is lost, or finds no port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from assistants.load import House
from assistants.schema import Assistant
from serve.engines.backends.engine import Launch
from serve.engines.gateways import Told
from serve.engines.host import Memory
from serve.engines.memory.gpus import Gpu, Seen
from serve.engines.memory.placement import Device, Need, Plan
from serve.ports import listen
from serve.process import Command
from tests.engines.conftest import (
    UNIT,
    HostOf,
    Slow,
    command_line,
    declare,
    exists,
    failed,
    house_of,
    pid_at,
    planned,
    ready,
)
from tests.ports import free_port


async def test_one_that_answers_but_does_not_compute_is_replaced(
    host_of: HostOf, tmp_path: Path
) -> None:
    """Its /health goes on; nobody uses it, and still it must write a token once in a while."""
    hangs = Slow("--hang-after=1")
    async with host_of(
        declare(tmp_path / "a"), tmp_path, hangs, token_every=0.1, token_timeout=0.3
    ) as watched:
        first = await watched.until(ready)
        hung = int(first["log"][0].rpartition(" ")[2])
        between = await watched.until(lambda r: not ready(r))
        assert between["reason"] == (
            "The engine of 'wishes' hung (no token within 0.3 seconds, unused)."
        )
        assert (await watched.until(ready))["restarts"] == 1
        assert not exists(hung)


async def test_one_in_use_is_not_asked_for_a_token_of_its_own(
    host_of: HostOf, tmp_path: Path
) -> None:
    hangs = Slow("--hang-after=1")
    async with host_of(
        declare(tmp_path / "a"), tmp_path, hangs, token_every=0.1, token_timeout=0.1
    ) as watched:
        replica = await watched.until(ready)
        watched.host.hear(Told(gateway="g", knows=1, in_flight={replica["id"]: 1}))
        await watched.host.version.other_than(watched.host.version.number, 1.0)
        assert watched.one()["restarts"] == 0


async def test_one_that_loads_for_long_is_waited_for(host_of: HostOf, tmp_path: Path) -> None:
    async with host_of(declare(tmp_path / "a"), tmp_path, Slow("--load=0.5")) as watched:
        seen = [watched.one()["state"]]
        while seen[-1] != "ready":
            await watched.host.version.other_than(watched.host.version.number, 30)
            seen.append(watched.one()["state"])
        assert set(seen) == {"starting", "ready"}
        assert watched.one()["restarts"] == 0


async def test_a_port_taken_in_between_costs_one_attempt(
    host_of: HostOf, workspaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listen("127.0.0.1", 0) as taken:
        ports = iter([taken.getsockname()[1]])
        monkeypatch.setattr(
            "serve.engines.site.free_port", lambda host: next(ports, None) or free_port(host)
        )
        async with host_of(declare(tmp_path / "a"), workspaces) as watched:
            told = await watched.until(lambda r: r["restarts"] == 1)
            assert any("bind" in line for line in told["log"])
            assert (await watched.until(ready))["restarts"] == 1


async def test_engines_listen_where_they_are_told_to(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    """A range of ports of which the first is taken, all addresses, and the name of the host."""
    with listen("127.0.0.1", 0) as taken:
        first = taken.getsockname()[1]
        site = {"ports": range(first, first + 50), "host": "0.0.0.0", "advertise": "localhost"}
        async with host_of(declare(tmp_path / "a"), workspaces, site=site) as watched:
            url = httpx.URL((await watched.until(ready))["url"])
            assert url.host == "localhost"
            assert first < (url.port or 0) < first + 50


async def test_a_range_of_ports_without_a_free_one_is_said(host_of: HostOf, tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        site = {"ports": range(port, port + 1)}
        async with host_of(declare(tmp_path / "a"), tmp_path, Slow(), site=site) as watched:
            told = (await watched.until(failed))["reason"]
    assert told == f"Every port from {port} to {port} is taken; name more with --engine-ports."


async def test_every_engine_wants_the_key(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    house = declare(tmp_path / "a")
    async with host_of(house, workspaces, site={"key": "secret"}, probe_timeout=5) as watched:
        url = (await watched.until(ready))["url"]
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            body = {"prompt": "春", "max_tokens": 1}
            assert (await client.post("/v1/completions", json=body)).status_code == 401
            key = {"Authorization": "Bearer secret"}
            answer = await client.post("/v1/completions", json=body, headers=key)
            assert answer.status_code == 200
        assert b"secret" not in command_line(pid_at(url))
        watched.host.stop("wishes")  # and the host itself knows it: it is not busy
        assert (await watched.until(lambda r: r["state"] == "stopped"))["url"] == ""


class Faulty(Slow):
    """Serves, and says in its log why it is worthless."""

    def fault(self, lines: Sequence[str]) -> str | None:
        return next((f"It is {line}." for line in lines if line.startswith("faulty")), None)


async def test_a_fault_fails_without_quick_restarts_though_the_process_lives(
    host_of: HostOf, tmp_path: Path
) -> None:
    faulty = Faulty("--say=faulty")
    async with host_of(declare(tmp_path / "a"), tmp_path, faulty, longest_wait=600) as watched:
        told = await watched.until(failed)
        assert told["reason"] == "'wishes' is not served: It is faulty."
        assert (told["restarts"], told["url"]) == (1, "")
        watched.host.ask("wishes")
        await watched.host.version.other_than(watched.host.version.number, 0.5)
        assert watched.one()["restarts"] == 1


async def test_a_fault_explains_an_ending(host_of: HostOf, tmp_path: Path) -> None:
    faulty = Faulty("--say=faulty", "--needs=/nothing")
    async with host_of(declare(tmp_path / "a"), tmp_path, faulty, longest_wait=600) as watched:
        told = await watched.until(failed)
    assert told["reason"] == "'wishes' is not served: It is faulty."


async def test_when_a_gpu_is_lost_its_engine_moves_to_another(
    host_of: HostOf, tmp_path: Path
) -> None:
    gpus = [Gpu(0, "GPU-0", 2 * UNIT, 2 * UNIT), Gpu(1, "GPU-1", 2 * UNIT, 2 * UNIT)]

    def look() -> Seen:
        return Seen(tuple(gpus), trouble="GPU 1 has fallen off the bus")

    def plan(house: House) -> Plan:
        devices = tuple(Device(gpu.index, "gpu", gpu.total) for gpu in gpus)
        return replace(planned()(house), devices=devices)

    house_of(tmp_path / "a", "first", more="")
    house = house_of(tmp_path / "a", "second", more="")
    memory = Memory(plan, look)
    async with host_of(house, tmp_path, Slow(), memory=memory, look_at_gpus=0.1) as watched:
        await watched.until_all(lambda all_: all(map(ready, all_)))
        before = {r["assistant"]: r for r in watched.all()}
        assert {name: r["devices"] for name, r in before.items()} == {"first": [0], "second": [1]}
        del gpus[1]
        told = await watched.until(lambda r: bool(r["reason"]), "second")
        assert told["reason"] == (
            "The engine of 'second' lost GPU 1 (GPU 1 has fallen off the bus)."
        )
        await watched.until(lambda r: ready(r) and r["devices"] == [0], "second")
        assert watched.one("first") == before["first"]


async def test_its_share_is_of_what_is_free_when_it_starts(host_of: HostOf, tmp_path: Path) -> None:
    seen: list[Launch] = []

    class Noting(Slow):
        def command(self, assistant: Assistant, launch: Launch) -> Command:
            seen.append(launch)
            return super().command(assistant, launch)

    def plan(house: House) -> Plan:
        need = Need(assistant="wishes", devices=1, context=UNIT, weights=2 * UNIT, activations=UNIT,
                    least_cache=UNIT, most_cache=4 * UNIT)  # fmt: skip
        devices = (Device(0, "gpu", 10 * UNIT),)
        return Plan(devices=devices, needs={"wishes": need}, homes={}, order=(), never={})

    memory = Memory(plan, lambda: Seen((Gpu(0, "GPU-0", 10 * UNIT, 8 * UNIT),)))
    async with host_of(declare(tmp_path / "a"), tmp_path, Noting(), memory=memory) as watched:
        assert (await watched.until(ready))["memory"] == 8 * UNIT
    assert (seen[-1].gpus, seen[-1].share) == ((0,), 4 / 5)  # of the 8 free, 3 are no cache's


async def test_a_host_that_hangs_up_on_a_request_that_never_ends(
    host_of: HostOf, tmp_path: Path
) -> None:
    """Nothing may be waited for without end: not by the host that ends either."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        async with host_of(
            declare(tmp_path / "a"), tmp_path, Slow("--hang-after=1"), drain=0.3
        ) as watched:
            url = (await watched.until(ready))["url"]
            hung = asyncio.create_task(client.post(f"{url}/v1/completions", json={}))
            while not await watched.host.replica("wishes").busy():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        with pytest.raises(httpx.TransportError):
            await hung


async def test_engines_that_start_at_once_get_ports_of_their_own(
    host_of: HostOf, tmp_path: Path
) -> None:
    """None of them listens yet when the next is given its port."""
    with listen("127.0.0.1", 0) as taken:
        first = taken.getsockname()[1]
        house = house_of(tmp_path / "a", "a", "b", "c", more="")
        site = {"ports": range(first, first + 30)}
        async with host_of(house, tmp_path, Slow("--load=0.3"), site=site) as watched:
            await watched.until_all(lambda all_: all(map(ready, all_)))
            assert len({replica["url"] for replica in watched.all()}) == 3
            assert {replica["restarts"] for replica in watched.all()} == {0}
