"""A workspace that is published between the first plan and the first look is planned for too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from assistants.load import House
from serve.engines.host import Memory
from serve.engines.memory.gpus import Seen
from serve.engines.memory.placement import Plan
from tests.engines.conftest import HostOf, Slow, declare, is_in, planned


async def test_it_is_served(host_of: HostOf, tmp_path: Path) -> None:
    house = declare(tmp_path / "house")
    workspace = tmp_path / "work" / "wishes" / "llamacpp"

    def plan(house: House) -> Plan:
        """As the real one: nothing can be planned for what has no workspace."""
        if workspace.exists():
            return planned(100)(house)
        workspace.mkdir(parents=True)  # the moment after the plan was made
        (workspace / "manifest.json").write_text(json.dumps({"number": 1}))
        return replace(planned(100)(house), needs={}, never={"wishes": "it has no workspace"})

    memory = Memory(plan, Seen)
    async with host_of(house, tmp_path / "work", Slow(), memory=memory) as watched:
        await watched.until(is_in("ready"))
