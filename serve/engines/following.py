"""Looks for changes in what engines stand on: workspaces built anew, GPUs that come or go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from serve.engines.gpus import Seen
from serve.engines.premises import Premises, Recipe
from serve.engines.replicas import Replicas
from serve.engines.updates import Updates

Replan = Callable[[], Awaitable[None]]


class Following:
    """Each look is cheap: it reads manifests, which are small."""

    def __init__(
        self, replicas: Replicas, premises: Premises, updates: Updates, replan: Replan
    ) -> None:
        self._replicas = replicas
        self._premises = premises
        self._updates = updates
        self._replan = replan
        # The plan that is there may be older than what is built by now: the first look plans anew.
        self._known: dict[str, str | None] = {}
        self._tried: dict[str, Recipe] = {}
        self._has_gpus = all(lane.kind == "gpu" for lane in premises.room.plan.lanes)
        """Also where none answers now: it may come back."""

    async def workspaces(self) -> None:
        """Update what was built anew, for ever."""
        while True:
            await asyncio.sleep(self._premises.policy.look_again)
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
            await asyncio.sleep(self._premises.policy.look_at_gpus)
            seen = await self._premises.look()
            planned = {lane.index for lane in self._premises.room.plan.lanes}
            if seen.answered and {gpu.index for gpu in seen.gpus} != planned:
                await self._replan()
                self._give_up_lost(seen)

    def _give_up_lost(self, seen: Seen) -> None:
        for replica in self._replicas:
            seat = self._premises.room.seat(replica)
            if seat is not None and seen.lost(seat.lanes):
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
            recipe = self._premises.recipe(replica.assistant)
            if recipe == replica.made_of:
                if self._tried.pop(name, None) is not None:
                    replica.note(None)
            elif recipe.workspace is not None and recipe != self._tried.get(name):
                self._tried[name] = recipe
                self._updates.request(name)

    def _built(self) -> dict[str, str | None]:
        return {
            replica.assistant.name: self._premises.recipe(replica.assistant).workspace
            for replica in self._replicas
        }
