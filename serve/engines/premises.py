"""What the replicas of one host have in common, and what each start is decided from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from assistants.schema import Assistant
from serve.engines.board import Board
from serve.engines.course import Policy
from serve.engines.engine import Engine, Launch
from serve.engines.errors import EngineError
from serve.engines.gateways import Gateways
from serve.engines.gpus import Seen
from serve.engines.lanes import share
from serve.engines.room import Room, Seat
from serve.engines.site import Ports, Site, manifest_id


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an engine is started from: when another is at hand, it is due for an update."""

    assistant: str
    settings: object
    workspace: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """The parts of a host that every replica uses."""

    engine: Engine
    site: Site
    policy: Policy
    board: Board
    gateways: Gateways
    room: Room
    ports: Ports
    gpus: Callable[[], Seen]
    """A look at the GPUs; blocks."""
    numbers: Iterator[int]

    def recipe(self, assistant: Assistant) -> Recipe:
        """What its engine would be started from now."""
        folder = self.site.workspace(assistant.name, self.engine.name)
        settings = getattr(assistant, self.engine.name, None)
        return Recipe(assistant.name, settings, manifest_id(folder))

    def require_startable(self, assistant: Assistant) -> None:
        """Find out what is wrong with its workspace before room is made for it.

        Raises:
            WorkspaceError: it is missing or is not what is declared.
        """
        self.engine.command(assistant, self._launch(assistant, 0))

    async def launch(self, assistant: Assistant, seat: Seat, port: int) -> Launch:
        """One start, its share of a GPU computed from what is free at this moment.

        Raises:
            EngineError: a GPU does not answer, or somebody else holds it.
        """
        if not seat.gpu:
            return self._launch(assistant, port)
        seen = await self.look()
        free = seen.free(seat.lanes)
        if free is None:
            lost = _told(seen.lost(seat.lanes))
            raise EngineError(f"'{assistant.name}' cannot start on {lost}.")
        if free < seat.need.least:
            raise EngineError(
                f"'{assistant.name}' needs {seat.need.least >> 20} MiB on GPU "
                f"{', '.join(map(str, seat.lanes))} and {free >> 20} MiB is free there: what holds "
                "the rest is no engine of this host (nvidia-smi names it)."
            )
        part = share(seat.need, seat.cache, free)
        return self._launch(assistant, port, gpus=seat.lanes, share=part)

    async def busy(self, port: int) -> int:
        """Requests in flight, as the engine there says."""
        async with self.site.client(port, seconds=self.policy.probe_timeout) as client:
            return await self.engine.busy(client)

    async def lost(self, seat: Seat) -> str | None:
        """Which GPUs of a seat do not answer any more, and why."""
        if not seat.gpu or not (seen := await self.look()).answered:
            return None
        return _told(seen.lost(seat.lanes))

    async def look(self) -> Seen:
        return await asyncio.to_thread(self.gpus)

    def _launch(
        self,
        assistant: Assistant,
        port: int,
        *,
        gpus: tuple[int, ...] = (),
        share: float | None = None,
    ) -> Launch:
        workspace = self.site.workspace(assistant.name, self.engine.name)
        return Launch(
            workspace=workspace,
            port=port,
            host=self.site.host,
            key=self.site.key,
            gpus=gpus,
            share=share,
        )


def _told(lost: dict[int, str]) -> str | None:
    return "; ".join(f"GPU {index} ({why})" for index, why in lost.items()) or None
