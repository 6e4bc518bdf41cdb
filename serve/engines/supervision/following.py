"""Watches for changes under the engines: workspaces built anew, GPUs that come or go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from serve.engines.memory.gpus import Seen
from serve.engines.supervision.context import HostContext, Recipe
from serve.engines.supervision.replicas import Replicas
from serve.engines.supervision.updates import Updates

Replan = Callable[[], Awaitable[None]]


class Following:
    """Each look is cheap: it reads manifests, which are small."""

    def __init__(
        self, replicas: Replicas, context: HostContext, updates: Updates, replan: Replan
    ) -> None:
        self._replicas = replicas
        self._context = context
        self._updates = updates
        self._replan = replan
        # The plan that is there may be older than what is built by now: the first look plans anew.
        self._known: dict[str, str | None] = {}
        self._tried: dict[str, Recipe] = {}
        self._has_gpus = all(device.kind == "gpu" for device in context.allocator.plan.devices)
        """Also where none answers now: it may come back."""

    async def workspaces(self) -> None:
        """Update what was built anew, for ever."""
        while True:
            await asyncio.sleep(self._context.policy.look_again)
            built = self._built()
            if built != self._known:
                changed = {name for name, _ in built.items() ^ self._known.items()}
                self._known = built
                await self._replan()
                self._hurry(changed)
            self._request_due()

    async def gpus(self) -> None:
        """Give up engines whose GPU is lost, for ever; they go where there is room."""
        while self._has_gpus:
            await asyncio.sleep(self._context.policy.look_at_gpus)
            seen = await self._context.look()
            planned = {device.index for device in self._context.allocator.plan.devices}
            if seen.answered and {gpu.index for gpu in seen.gpus} != planned:
                await self._replan()
                self._give_up_lost(seen)

    def _give_up_lost(self, seen: Seen) -> None:
        for replica in self._replicas:
            grant = self._context.allocator.held_by(replica)
            if grant is not None and seen.lost(grant.devices):
                replica.condemn("was ended")

    def _hurry(self, names: set[str]) -> None:
        """What has failed may be mended by what was built."""
        for name in names:
            replica = self._replicas.current(name)
            if replica is not None and not replica.running:
                replica.hurry()

    def _request_due(self) -> None:
        """Each change is tried once; what is wrong with it, somebody has to change."""
        for name in self._replicas.names:
            replica = self._replicas.current(name)
            if replica is None or replica.made_of is None or replica.ready_since is None:
                continue
            recipe = self._context.recipe(replica.assistant)
            if recipe == replica.made_of:
                if self._tried.pop(name, None) is not None:
                    replica.note(None)
            elif recipe.workspace is not None and recipe != self._tried.get(name):
                self._tried[name] = recipe
                self._updates.request(name)

    def _built(self) -> dict[str, str | None]:
        return {
            replica.assistant.name: self._context.recipe(replica.assistant).workspace
            for replica in self._replicas
        }
