"""More assistants than memory, with real processes: who leaves for whom; nothing is cut."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import httpx
import pytest

from serve.engines.memory.allocator import NeverError
from tests.engines.conftest import UNIT, HostOf, Slow, Watched, house_of, is_in, room_for
from tests.engines.follower import Follower


def states(watched: Watched) -> dict[str, str]:
    return {replica["assistant"]: replica["state"] for replica in watched.all()}


async def test_a_cold_one_takes_the_place_of_the_idle_one(host_of: HostOf, tmp_path: Path) -> None:
    house = house_of(tmp_path / "a", "first", "second")
    async with host_of(house, tmp_path, Slow(), memory=room_for(1)) as watched:
        async with Follower(watched.host).following() as gateway:
            await gateway.complete("first")
            await gateway.complete("second")
        assert states(watched) == {"first": "stopped", "second": "ready"}
        assert watched.one("first")["reason"] == "'first' made room for 'second'."


async def test_the_least_recently_used_leaves(host_of: HostOf, tmp_path: Path) -> None:
    house = house_of(tmp_path / "a", "a", "b", "c")
    async with host_of(house, tmp_path, Slow(), memory=room_for(2)) as watched:
        async with Follower(watched.host).following() as gateway:
            for name in ("a", "b", "a", "c"):
                await gateway.complete(name)
        assert states(watched) == {"a": "ready", "b": "stopped", "c": "ready"}


async def test_no_request_is_cut_under_concurrent_load(host_of: HostOf, tmp_path: Path) -> None:
    """Five assistants, room for two, three gateways, and engines that take time to load."""
    names = ("a", "b", "c", "d", "e")
    house = house_of(tmp_path / "a", *names)
    slow = Slow("--load=0.2")
    async with host_of(house, tmp_path, slow, memory=room_for(2), patience=0.5) as watched:
        gateways = [Follower(watched.host) for _ in range(3)]
        async with contextlib.AsyncExitStack() as opened:
            for gateway in gateways:
                await opened.enter_async_context(gateway.following())
            requests = await opened.enter_async_context(asyncio.TaskGroup())
            for number in range(60):
                gateway, name = gateways[number % 3], names[number * 7 % 5]
                requests.create_task(gateway.complete(name, seconds=0.1 * (number % 4)))
        assert sum(sum(gateway.answered.values()) for gateway in gateways) == 60
    ends = [
        line
        for name in names
        for line in (tmp_path / "logs" / f"engine-{name}.log").read_text().splitlines()
        if line.startswith("ends with")
    ]
    assert len(ends) >= len(names)
    assert set(ends) == {"ends with 0 in flight"}


async def test_one_in_use_is_not_stopped_before_it_has_answered(
    host_of: HostOf, tmp_path: Path
) -> None:
    house, flag = house_of(tmp_path / "a", "busy", "cold"), tmp_path / "flag"
    async with host_of(house, tmp_path, Slow(), memory=room_for(1), patience=0.2) as watched:
        async with Follower(watched.host).following() as gateway, asyncio.TaskGroup() as requests:
            await gateway.complete("busy")
            first = requests.create_task(gateway.complete("busy", until=str(flag)))
            await busy(watched, "busy")
            second = requests.create_task(gateway.complete("cold"))
            await watched.until(is_in("draining"), "busy")
            assert not first.done()
            assert not second.done()
            flag.touch()
        assert gateway.answered == {"busy": 2, "cold": 1}


async def busy(watched: Watched, name: str) -> None:
    """Return once its engine says that it has a request."""
    while not await watched.host.replica(name).busy():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def test_a_client_that_came_past_the_gateways_keeps_its_engine_too(
    host_of: HostOf, tmp_path: Path
) -> None:
    house, flag = house_of(tmp_path / "a", "busy", "cold"), tmp_path / "flag"
    async with host_of(house, tmp_path, Slow(), memory=room_for(1)) as watched:
        watched.host.ask("busy")
        url = (await watched.until(is_in("ready"), "busy"))["url"]
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            long = client.post(f"{url}/v1/completions", json={"until": str(flag)})
            direct = asyncio.create_task(long)
            await busy(watched, "busy")
            watched.host.ask("cold")
            told = await watched.until(lambda r: bool(r["reason"]), "cold")
            assert told["reason"] == "waits for room: busy is in use"
            assert watched.one("busy")["state"] == "ready"
            flag.touch()
            assert (await direct).status_code == 200
            await watched.until(is_in("ready"), "cold")


async def test_minimum_stay(host_of: HostOf, tmp_path: Path) -> None:
    house = house_of(tmp_path / "a", "first", "second")
    async with host_of(house, tmp_path, Slow(), memory=room_for(1), minimum_stay=1.0) as watched:
        watched.host.ask("first")
        began = asyncio.get_running_loop().time()
        await watched.until(is_in("ready"), "first")
        watched.host.ask("second")
        await watched.until(is_in("ready"), "second")
        assert asyncio.get_running_loop().time() - began >= 1.0


async def test_two_cold_ones_asked_in_turn_do_not_thrash(host_of: HostOf, tmp_path: Path) -> None:
    """Forty requests of two assistants mixed up, and room for one: never more than one swap in a
    minimum stay, in which many are answered, instead of one for each request."""
    house, stay = house_of(tmp_path / "a", "x", "y"), 0.5
    began = asyncio.get_running_loop().time()
    async with host_of(house, tmp_path, Slow(), memory=room_for(1), minimum_stay=stay) as watched:
        async with Follower(watched.host).following() as gateway:

            async def client(name: str) -> None:
                for _ in range(10):
                    await gateway.complete(name)

            async with asyncio.timeout(60), asyncio.TaskGroup() as clients:
                for number in range(4):
                    clients.create_task(client("xy"[number % 2]))
        assert gateway.answered == {"x": 20, "y": 20}
        took = asyncio.get_running_loop().time() - began
    starts = sum(
        line.startswith("serving")
        for name in "xy"
        for line in (tmp_path / "logs" / f"engine-{name}.log").read_text().splitlines()
    )
    assert 2 <= starts <= 1 + took / stay


async def test_one_under_load_without_end_gives_way_all_the_same(
    host_of: HostOf, tmp_path: Path
) -> None:
    house = house_of(tmp_path / "a", "loved", "cold")
    async with (
        host_of(house, tmp_path, Slow(), memory=room_for(1), patience=0.5) as watched,
        Follower(watched.host).following() as gateway,
    ):

        async def always() -> None:
            while True:
                await gateway.complete("loved", seconds=0.1)

        await gateway.complete("loved")
        load = [asyncio.create_task(always()) for _ in range(3)]
        await asyncio.wait_for(gateway.complete("cold"), 30)
        for task in load:
            task.cancel()
        for ended in await asyncio.gather(*load, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError)  # and no request of theirs was cut


async def test_pinned_ones_stay(host_of: HostOf, tmp_path: Path) -> None:
    house_of(tmp_path / "a", "pinned", more="pinned: true\n")
    house = house_of(tmp_path / "a", "other", "third")
    async with host_of(house, tmp_path, Slow(), memory=room_for(2)) as watched:
        await watched.until(is_in("ready"), "pinned")
        async with Follower(watched.host).following() as gateway:
            await gateway.complete("other")
            await gateway.complete("third")
        assert states(watched) == {"pinned": "ready", "other": "stopped", "third": "ready"}


async def test_what_does_not_fit_beside_the_pinned_is_refused(
    host_of: HostOf, tmp_path: Path
) -> None:
    house_of(tmp_path / "a", "pinned", more="pinned: true\n")
    house = house_of(tmp_path / "a", "other")
    async with host_of(house, tmp_path, Slow(), memory=room_for(1)) as watched:
        await watched.until(is_in("ready"), "pinned")
        with pytest.raises(NeverError, match="does not fit beside what is pinned"):
            watched.host.ask("other")


async def test_at_once_ones_without_room_wait_to_be_asked(host_of: HostOf, tmp_path: Path) -> None:
    house = house_of(tmp_path / "a", "a", "b", "c", more="")
    async with host_of(house, tmp_path, Slow(), memory=room_for(2)) as watched:
        await watched.until_all(
            lambda all_: sorted(r["state"] for r in all_) == ["ready", "ready", "stopped"]
        )
        left = next(r for r in watched.all() if r["state"] == "stopped")
        assert left["reason"] == (
            f"'{left['assistant']}' does not fit beside what runs; it starts when it is asked for."
        )
        async with Follower(watched.host).following() as gateway:
            await gateway.complete(left["assistant"])


async def test_who_waits_for_room_is_forgotten_when_the_askers_leave(
    host_of: HostOf, tmp_path: Path
) -> None:
    house = house_of(tmp_path / "a", "first", "second")
    async with host_of(house, tmp_path, Slow(), memory=room_for(1), minimum_stay=60) as watched:
        async with Follower(watched.host).following() as gateway:
            await gateway.complete("first")
            asked = asyncio.create_task(gateway.complete("second"))
            waiting = await watched.until(lambda r: r["reason"] is not None, "second")
            assert waiting["reason"] == "waits for room: first stays a little longer"
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            watched.host.hear(gateway._told(watched.host.version.number))  # its next poll
            gone = await watched.until(is_in("stopped"), "second")
        assert gone["reason"] == "Nobody waits for 'second' any more."
        assert states(watched)["first"] == "ready"


async def test_engines_that_measure_memory_start_one_after_the_other_on_a_gpu(
    host_of: HostOf, tmp_path: Path
) -> None:
    house = house_of(tmp_path / "a", "a", "b", "c", more="")
    slow = Slow("--load=0.3", serial=True)
    seen: list[dict[str, str]] = []
    async with host_of(house, tmp_path, slow, memory=room_for(3, kind="gpu")) as watched:
        while set(states(watched).values()) != {"ready"}:
            loading = [r for r in watched.all() if r["url"] and r["state"] == "starting"]
            assert len(loading) <= 1
            seen.append({r["assistant"]: r["reason"] for r in watched.all() if r["reason"]})
            await watched.host.version.other_than(watched.host.version.number, 30)
        assert any("has loaded on the same GPU" in text for told in seen for text in told.values())
        assert {tuple(replica["devices"]) for replica in watched.all()} == {(0,)}


async def test_engines_are_spread_over_gpus(host_of: HostOf, tmp_path: Path) -> None:
    house = house_of(tmp_path / "a", "a", "b", more="")
    async with host_of(house, tmp_path, Slow(), memory=room_for(1, 1, kind="gpu")) as watched:
        await watched.until_all(lambda all_: all(r["state"] == "ready" for r in all_))
        assert sorted(r["devices"] for r in watched.all()) == [[0], [1]]
        assert watched.host.report()["devices"] == [
            {"device": n, "kind": "gpu", "memory": UNIT, "taken": UNIT} for n in (0, 1)
        ]


async def test_one_that_crashes_pushes_nobody_out_again_unless_it_is_asked_for(
    host_of: HostOf, tmp_path: Path
) -> None:
    house = house_of(tmp_path / "a", "well", "crashes")
    engine = Slow(crashes="--needs=/nothing")
    async with host_of(house, tmp_path, engine, memory=room_for(1)) as watched:
        watched.host.ask("well")
        await watched.until(is_in("ready"), "well")
        watched.host.ask("crashes")
        await watched.until(lambda r: r["restarts"] >= 1, "crashes")
        watched.host.ask("well")
        await watched.until(is_in("ready"), "well")
        settled = watched.one("crashes")
        await watched.host.version.other_than(watched.host.version.number, 1.0)
        assert watched.one("well")["state"] == "ready"
        assert watched.one("crashes")["restarts"] == settled["restarts"]
        watched.host.ask("crashes")
        await watched.until(is_in("stopped"), "well")
