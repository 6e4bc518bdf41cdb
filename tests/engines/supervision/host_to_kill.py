"""An engine host for a test to kill: brings its engines to a stage, says so, and goes on.

python -m tests.engines.supervision.host_to_kill STAGE FOLDER
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from serve.engines.host import Host
from serve.engines.site import Site
from tests.engines.conftest import QUICK, Slow, house_of, room_for

NEVER = "--load=600"


class Staged:
    """A host of two assistants with room for two engines, or for one."""

    def __init__(self, folder: Path, room: int) -> None:
        house = house_of(folder / "assistants", "quick", "slow")
        self.engine = Slow(slow=NEVER)
        site = Site(workspaces=folder, logs=folder / "logs")
        self.host = Host(house, self.engine, site, QUICK, room_for(room))
        self.asked: asyncio.Task[Any] | None = None

    async def until(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        while not wanted(now := self.host.report()["replicas"]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # that a process has begun is no news
        return list(now)

    async def loading(self) -> None:
        self.host.ask("slow")
        await self.until(lambda all_: any(r["url"] for r in all_))

    async def ready(self) -> str:
        self.host.ask("quick")
        now = await self.until(lambda all_: any(r["state"] == "ready" for r in all_))
        return next(str(r["url"]) for r in now if r["url"])

    async def draining(self) -> None:
        """For as long as a request is not answered, which is for ever."""
        url = await self.ready()
        client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=None)
        never = client.post("/v1/completions", json={"until": "/no/such/file"})
        self.asked = asyncio.create_task(never)
        while not await self.host.replica("quick").busy():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self.host.stop("quick")
        await self.until(lambda all_: any(r["state"] == "draining" for r in all_))

    async def swapping(self) -> None:
        """One drains, and another waits for its room."""
        await self.draining()
        self.host.ask("slow")
        await self.until(lambda all_: any("is stopping" in (r["reason"] or "") for r in all_))

    async def updating(self) -> None:
        """The new engine loads beside the old one."""
        await self.ready()
        self.engine.options["quick"] = NEVER
        self.host.update("quick")
        await self.until(lambda all_: sum(bool(r["url"]) for r in all_) == 2)


async def main(stage: str, folder: Path) -> None:
    staged = Staged(folder, room=1 if stage == "swapping" else 2)
    running = asyncio.create_task(staged.host.run())
    await getattr(staged, stage)()
    print("reached", flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
