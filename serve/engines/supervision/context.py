"""What the replicas of one host have in common, and what each start is decided from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from assistants.schema import Assistant
from serve.engines.backends.engine import Engine, Launch
from serve.engines.errors import EngineError
from serve.engines.gateways import Gateways
from serve.engines.memory.allocator import Allocator, Grant
from serve.engines.memory.gpus import Seen
from serve.engines.memory.placement import share
from serve.engines.policy import Policy
from serve.engines.site import Ports, Site, manifest_id
from serve.engines.version import Version


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an engine is started from: when another is at hand, it is due for an update."""

    assistant: str
    settings: object
    workspace: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostContext:
    """The parts of a host that every replica uses."""

    engine: Engine
    site: Site
    policy: Policy
    version: Version
    gateways: Gateways
    allocator: Allocator
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

    async def launch(self, assistant: Assistant, grant: Grant, port: int) -> Launch:
        """One start, its share of a GPU computed from what is free at this moment.

        Raises:
            EngineError: a GPU does not answer, or somebody else holds it.
        """
        if not grant.gpu:
            return self._launch(assistant, port)
        seen = await self.look()
        free = seen.free(grant.devices)
        if free is None:
            lost = _told(seen.lost(grant.devices))
            raise EngineError(f"'{assistant.name}' cannot start on {lost}.")
        if free < grant.need.least:
            raise EngineError(
                f"'{assistant.name}' needs {grant.need.least >> 20} MiB on GPU "
                f"{', '.join(map(str, grant.devices))} and {free >> 20} MiB is free there: what "
                "holds the rest is no engine of this host (nvidia-smi names it)."
            )
        part = share(grant.need, grant.cache, free)
        return self._launch(assistant, port, gpus=grant.devices, share=part)

    async def busy(self, port: int) -> int:
        """Requests in flight, as the engine there says."""
        async with self.site.client(port, seconds=self.policy.probe_timeout) as client:
            return await self.engine.busy(client)

    async def lost(self, grant: Grant) -> str | None:
        """Which GPUs of a grant do not answer any more, and why."""
        if not grant.gpu or not (seen := await self.look()).answered:
            return None
        return _told(seen.lost(grant.devices))

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
            options=self.site.options,
        )


def _told(lost: dict[int, str]) -> str | None:
    return "; ".join(f"GPU {index} ({why})" for index, why in lost.items()) or None
