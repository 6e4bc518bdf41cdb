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
from tests.engines.conftest import HostOf, Slow, Watched, declare, house_of
from tests.engines.test_updates import READY


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
        house = declare(folder, more="llamacpp: {parallel: 2}\n")
        told = await watched.until(lambda r: r["state"] == "ready" and bool(r["reason"]))
        assert told["reason"].endswith("(parallel is 2 now, was 4); run hanlin convert wishes.")
        assert told["url"] == old["url"]
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
