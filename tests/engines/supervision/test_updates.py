"""Rolling updates and changed declarations, with real processes: nothing is cut on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from serve.engines.gateways import Told
from tests.engines.conftest import HostOf, Slow, declare, house_of, is_in, room_for
from tests.engines.follower import Follower

READY = is_in("ready")


def version(workspaces: Path, number: int, name: str = "wishes") -> None:
    """A workspace of this number, as far as the host looks at one."""
    folder = workspaces / name / "llamacpp"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"number": number}))


@contextlib.asynccontextmanager
async def load_on(gateway: Follower, *, clients: int = 3) -> AsyncIterator[None]:
    """Requests without a pause, none of which may fail."""

    async def client() -> None:
        while True:
            await gateway.complete("wishes", seconds=0.05)

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError)


def only(replica_id: str) -> Any:
    """Whether there is one replica, of this id and ready."""
    return lambda all_: [(r["id"], r["state"]) for r in all_] == [(replica_id, "ready")]


async def test_the_new_one_is_ready_before_the_old_one_goes(
    host_of: HostOf, tmp_path: Path
) -> None:
    house = declare(tmp_path / "a")
    both: list[set[str]] = []
    async with host_of(house, tmp_path, Slow("--load=0.3")) as watched:
        await watched.until(READY)
        async with Follower(watched.host).following() as gateway, load_on(gateway):
            await gateway.complete("wishes")
            watched.host.update("wishes")
            while not only("wishes.2")(watched.all()):
                both.append({f"{r['id']} {r['state']}" for r in watched.all()})
                assert any(r["state"] == "ready" for r in watched.all())
                await watched.host.version.other_than(watched.host.version.number, 30)
            await gateway.complete("wishes")
        assert {"wishes.1 ready", "wishes.2 starting"} in both
        assert {"wishes.1 draining", "wishes.2 ready"} in both
        assert {"wishes.1", "wishes.2"} == set(gateway.served_by)


async def test_where_both_do_not_fit_the_old_one_goes_first(
    host_of: HostOf, tmp_path: Path
) -> None:
    house = declare(tmp_path / "a")
    async with host_of(house, tmp_path, Slow(), memory=room_for(1)) as watched:
        url = (await watched.until(READY))["url"]
        async with Follower(watched.host).following() as gateway, load_on(gateway):
            watched.host.update("wishes")
            await watched.until(is_in("draining"))
            await watched.until(is_in("starting"))
            assert (await watched.until(READY))["url"] != url
        assert len(watched.all()) == 1


async def test_what_is_built_anew_is_served(host_of: HostOf, tmp_path: Path) -> None:
    version(tmp_path, 1)
    async with host_of(declare(tmp_path / "a"), tmp_path, Slow()) as watched:
        first = (await watched.until(READY))["workspace"]
        version(tmp_path, 2)
        await watched.until_all(only("wishes.2"))
        assert watched.one()["workspace"] not in (None, first)
        version(tmp_path, 2)  # touched, but the same
        await asyncio.sleep(0.5)
        assert only("wishes.2")(watched.all())


async def test_an_update_that_cannot_start_leaves_the_old_one(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(workspaces, work)
    folder = work / "wishes" / "llamacpp"
    async with host_of(declare(tmp_path / "a"), work) as watched:
        url = (await watched.until(READY))["url"]
        (folder / "model.gguf").rename(folder / "aside")
        (folder / "model.gguf").write_bytes((folder / "aside").read_bytes()[:3_000_000])
        (folder / "manifest.json").write_text("{}")
        told = await watched.until(lambda r: bool(r["reason"]) and r["state"] == "ready")
        assert told["reason"].startswith(
            "Its update failed, and the engine before it serves on: "
            "The engine of 'wishes' ended with exit code 1; its last line: "
        )
        await watched.until_all(lambda all_: len(all_) == 1)
        assert watched.one()["url"] == url
        await watched.host.version.other_than(watched.host.version.number, 0.5)
        (folder / "aside").rename(folder / "model.gguf")
        (folder / "manifest.json").write_text('{"mended": true}')
        await watched.until_all(lambda all_: len(all_) == 1 and all_[0]["url"] != url)
        now = watched.one()
        assert (now["state"], now["reason"]) == ("ready", None)
        assert now["id"] == "wishes.3"  # what failed was tried once


async def test_a_failed_one_starts_as_soon_as_it_is_built_anew(
    host_of: HostOf, tmp_path: Path
) -> None:
    version(tmp_path, 1)
    slow = {"first_wait": 600, "longest_wait": 600}
    flag = tmp_path / "mended"
    dies_first = Slow(wishes=f"--needs={flag}")
    async with host_of(declare(tmp_path / "a"), tmp_path, dies_first, **slow) as watched:
        await watched.until(lambda r: r["restarts"] == 1)
        flag.touch()
        version(tmp_path, 2)
        assert (await watched.until(READY))["restarts"] == 1


async def test_updates_asked_for_at_once_follow_one_another(
    host_of: HostOf, tmp_path: Path
) -> None:
    async with host_of(declare(tmp_path / "a"), tmp_path, Slow()) as watched:
        await watched.until(READY)
        for _ in range(5):
            watched.host.update("wishes")
        await watched.until_all(only("wishes.2"))
        watched.host.update("wishes")
        await watched.until_all(only("wishes.3"))


async def test_an_update_asked_for_during_another_follows_it(
    host_of: HostOf, tmp_path: Path
) -> None:
    """The first may have begun before what the second was asked for."""
    flag = tmp_path / "flag"
    flag.touch()
    engine = Slow(f"--loads-until={flag}")
    async with host_of(declare(tmp_path / "a"), tmp_path, engine) as watched:
        await watched.until(READY)
        flag.unlink()
        watched.host.update("wishes")
        await watched.until_all(lambda all_: len(all_) == 2)
        watched.host.update("wishes")
        flag.touch()
        await watched.until_all(only("wishes.3"))


async def test_stopped_until_it_is_asked_for(host_of: HostOf, tmp_path: Path) -> None:
    async with host_of(declare(tmp_path / "a"), tmp_path, Slow()) as watched:
        await watched.until(READY)
        watched.host.stop("wishes")
        told = (await watched.until(is_in("stopped")))["reason"]
        assert told == "'wishes' was told to stop; it starts when it is asked for."
        watched.host.ask("wishes")
        await watched.until(READY)


async def test_one_asked_for_while_it_leaves_comes_back(host_of: HostOf, tmp_path: Path) -> None:
    async with host_of(declare(tmp_path / "a"), tmp_path, Slow()) as watched:
        await watched.until(READY)
        watched.host.stop("wishes")
        watched.host.ask("wishes")
        assert watched.one()["state"] == "draining"
        await watched.until(is_in("starting"))
        await watched.until(READY)


async def test_told_to_stop_before_it_has_begun_it_does_not_begin(
    host_of: HostOf, tmp_path: Path
) -> None:
    house = house_of(tmp_path / "a", "a")
    async with host_of(house, tmp_path, Slow()) as watched:
        await watched.host.version.other_than(watched.host.version.number, 0.2)
        watched.host.ask("a")
        watched.host.stop("a")
        await watched.host.version.other_than(watched.host.version.number, 0.5)
        assert watched.one("a")["state"] == "stopped"
        watched.host.ask("a")
        await watched.until(READY, "a")


async def test_an_update_has_a_failed_one_tried_at_once(host_of: HostOf, tmp_path: Path) -> None:
    flag = tmp_path / "mended"
    slow = {"first_wait": 600, "longest_wait": 600}
    engine = Slow(wishes=f"--needs={flag}")
    async with host_of(declare(tmp_path / "a"), tmp_path, engine, loop=1, **slow) as watched:
        await watched.until(is_in("failed"))
        flag.touch()
        watched.host.update("wishes")
        assert (await watched.until(READY))["restarts"] == 1


async def test_one_that_dies_while_it_leaves_is_not_started_again(
    host_of: HostOf, tmp_path: Path
) -> None:
    async with host_of(declare(tmp_path / "a"), tmp_path, Slow()) as watched:
        replica = await watched.until(READY)
        told = Told(gateway="g", knows=10**6, in_flight={replica["id"]: 1})  # never acknowledged
        watched.host.hear(told)
        watched.host.stop("wishes")
        os.kill(int(replica["log"][0].rpartition(" ")[2]), signal.SIGKILL)
        async with asyncio.timeout(20):
            gone = await watched.until(is_in("stopped"))
        assert gone["restarts"] == 0


async def test_nobody_makes_room_for_the_update_of_a_pinned_one(
    host_of: HostOf, tmp_path: Path
) -> None:
    house_of(tmp_path / "a", "other", more="")
    house = house_of(tmp_path / "a", "pinned", more="pinned: true\n")
    async with host_of(house, tmp_path, Slow(), memory=room_for(2)) as watched:
        await watched.until_all(lambda all_: all(map(READY, all_)))
        url = watched.one("pinned")["url"]
        watched.host.update("pinned")
        await watched.until(lambda r: READY(r) and r["url"] != url, "pinned")
        log = (tmp_path / "logs" / "engine-other.log").read_text()
        assert log.count("serving") == 1
        assert "ends" not in log
