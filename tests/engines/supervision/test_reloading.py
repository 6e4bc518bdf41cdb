"""Declarations that change while their engines run."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from assistants.errors import UnknownAssistantError
from assistants.load import load_house
from serve.declared import Declared
from tests.engines.conftest import HostOf, Slow, Watched, declare, house_of, is_in
from tests.engines.follower import Follower
from tests.engines.supervision.test_updates import READY, load_on


@contextlib.asynccontextmanager
async def followed(folder: Path, watched: Watched) -> AsyncIterator[None]:
    declared = Declared(folder, lambda: load_house(folder))
    task = asyncio.create_task(declared.follow(watched.host.take_over, watched.host.tell))
    try:
        yield
    finally:
        task.cancel()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.declared.LOOK_SECONDS", 0.02)


@pytest.mark.usefixtures("soon")
async def test_assistants_come_and_go_with_their_declarations(
    host_of: HostOf, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    house = house_of(folder, "stays", "goes", more="")
    async with host_of(house, tmp_path, Slow()) as watched, followed(folder, watched):
        await watched.until_all(lambda all_: all(map(READY, all_)))
        stays = watched.one("stays")
        declare(folder, "comes")
        await watched.until_all(lambda all_: len(all_) == 3 and all(map(READY, all_)))
        (folder / "goes.yaml").unlink()
        await watched.until_all(lambda all_: {r["assistant"] for r in all_} == {"comes", "stays"})
        with pytest.raises(UnknownAssistantError):
            watched.host.ask("goes")
        assert watched.one("stays")["id"] == stays["id"]  # and was not touched


@pytest.mark.usefixtures("soon")
async def test_under_load_nothing_is_cut(host_of: HostOf, tmp_path: Path) -> None:
    """Others come and go, and what is declared of the one in use changes."""
    folder = tmp_path / "a"
    async with (
        host_of(declare(folder), tmp_path, Slow()) as watched,
        followed(folder, watched),
        Follower(watched.host).following() as gateway,
        load_on(gateway),
    ):
        for number in range(4):
            declare(folder, more=f"sampling: {{seed: {number}}}\n")
            house_of(folder, f"new-{number}", more="")
            await watched.until_all(lambda all_: len(all_) == 2 and all(map(READY, all_)))
            await gateway.complete("wishes")
            (folder / f"new-{number}.yaml").unlink()
            await watched.until_all(lambda all_: len(all_) == 1)
        assert set(gateway.served_by) == {"wishes.1"}
        assert watched.one()["restarts"] == 0


@pytest.mark.usefixtures("soon")
async def test_one_that_goes_answers_what_it_has(host_of: HostOf, tmp_path: Path) -> None:
    folder, flag = tmp_path / "a", tmp_path / "flag"
    house = house_of(folder, "stays", "goes", more="")
    async with (
        host_of(house, tmp_path, Slow()) as watched,
        followed(folder, watched),
        Follower(watched.host).following() as gateway,
    ):
        await watched.until(READY, "goes")
        asked = asyncio.create_task(gateway.complete("goes", until=str(flag)))
        while not await watched.host.replica("goes").busy():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        (folder / "goes.yaml").unlink()
        told = await watched.until(is_in("draining"), "goes")
        assert not asked.done()
        flag.touch()
        await asked
        await watched.until_all(lambda all_: told["id"] not in [r["id"] for r in all_])


@pytest.mark.usefixtures("soon")
async def test_one_that_goes_while_it_is_updated_goes_altogether(
    host_of: HostOf, tmp_path: Path
) -> None:
    folder, flag = tmp_path / "a", tmp_path / "flag"
    house = house_of(folder, "goes", "stays", more="")
    engine = Slow(goes=f"--loads-until={flag}")
    flag.touch()
    async with host_of(house, tmp_path, engine) as watched, followed(folder, watched):
        await watched.until_all(lambda all_: all(map(READY, all_)))
        flag.unlink()
        watched.host.update("goes")
        await watched.until_all(lambda all_: len(all_) == 3)
        (folder / "goes.yaml").unlink()
        await watched.until_all(lambda all_: len(all_) == 2)
        flag.touch()
        await watched.until_all(lambda all_: [r["assistant"] for r in all_] == ["stays"])
        assert "ends with 0 in flight" in (tmp_path / "logs" / "engine-goes+2.log").read_text()


@pytest.mark.usefixtures("soon")
async def test_a_broken_declaration_changes_nothing(
    host_of: HostOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "a"
    async with host_of(declare(folder), tmp_path, Slow()) as watched, followed(folder, watched):
        before = await watched.until(READY)
        (folder / "wishes.yaml").write_text("name: wishes\nmodle: {}\n")
        async with asyncio.timeout(20):
            while not caplog.records:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert len(caplog.records) == 1
        assert "wishes.yaml" in caplog.text
        assert "model" in caplog.text
        assert watched.one() == before
        told = watched.host.report()
        assert "wishes.yaml:2: unknown key 'modle'" in told["problem"]
        (folder / "wishes.yaml").unlink()
        declare(folder, "other")
        await watched.until_all(lambda all_: {r["assistant"] for r in all_} == {"other"})
        assert watched.host.report()["problem"] is None


@pytest.mark.usefixtures("soon")
async def test_changed_settings_wait_for_the_workspace_that_has_them(
    host_of: HostOf, workspaces: Path, tmp_path: Path
) -> None:
    from convert.progress import Unwatched
    from convert.run import build

    folder, work = tmp_path / "a", tmp_path / "work"
    shutil.copytree(workspaces, work, ignore=shutil.ignore_patterns(".declared"))  # ours now
    async with host_of(declare(folder), work) as watched, followed(folder, watched):
        old = await watched.until(READY)
        for _ in range(2):
            house = declare(folder, more="llamacpp: {parallel: 2}\n")
            told = await watched.until(lambda r: r["state"] == "ready" and bool(r["reason"]))
            assert told["reason"].endswith("(parallel is 2 now, was 4); run hanlin convert wishes.")
            assert told["url"] == old["url"]
            declare(folder)  # as it was, so nothing is wrong with it
            await watched.until(lambda r: r["reason"] is None)
        declare(folder, more="llamacpp: {parallel: 2}\n")
        await asyncio.to_thread(
            build, house, engine="llamacpp", workspaces=work, force=False, progress=Unwatched()
        )
        await watched.until_all(lambda all_: len(all_) == 1 and all_[0]["url"] != old["url"])
        assert watched.one()["reason"] is None


@pytest.mark.usefixtures("soon")
async def test_pinning_needs_no_restart(host_of: HostOf, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    async with host_of(declare(folder), tmp_path, Slow()) as watched, followed(folder, watched):
        before = await watched.until(READY)
        declare(folder, more="pinned: true\n")
        now = await watched.until(lambda r: bool(r["pinned"]))
        assert (now["id"], now["url"]) == (before["id"], before["url"])
