"""A quantised model in the making: what is finished survives an interruption.

Beside OUT lies a folder with one file per finished layer and the hidden states that go into the
next. `state.json` names both with their SHA-256 and says which inputs they were made from; only
a draft of exactly the same inputs whose every byte is still there is taken up again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from convert.digests import of_file
from convert.errors import writing
from convert.publish import replaced, require_new, staged
from convert.quantize.activations import Activations
from convert.quantize.settings import draft_of
from convert.quantize.shard import Shard

_STATE = "state.json"


@dataclass(slots=True)
class Draft:
    """The folder beside OUT."""

    out: Path
    inputs: str
    """A digest of everything the result depends on."""
    shape: tuple[int, int, int]
    """Of the hidden states."""
    shards: list[Shard] = field(default_factory=list)
    hidden: Activations | None = None

    @property
    def folder(self) -> Path:
        return draft_of(self.out)

    @property
    def model(self) -> Path:
        """What becomes OUT."""
        return self.folder / "model"

    def write_hidden(self, states: Iterable[Tensor]) -> tuple[Activations, str]:
        """The hidden states after the files that are there so far."""
        following = Activations(self.folder / f"hidden-{len(self.shards):05}.f32", self.shape)
        return following, following.write(states).sha256

    def commit(self, shard: Shard, hidden: Activations, sha256: str) -> None:
        """From here on, an interruption costs nothing that was done before."""
        before, self.hidden = self.hidden, hidden
        self.shards.append(shard)
        state = {
            "inputs": self.inputs,
            "shards": [asdict(shard) for shard in self.shards],
            "hidden": {"file": hidden.path.name, "sha256": sha256},
        }
        replaced(self.folder / _STATE, json.dumps(state, indent=1))
        if before is not None and before.path != hidden.path:
            before.path.unlink(missing_ok=True)

    def publish(self) -> None:
        """OUT appears, whole; its lock must be held."""
        with staged(self.out) as folder:
            for path in self.model.iterdir():
                path.rename(folder / path.name)
        shutil.rmtree(self.folder)


def open_draft(out: Path, inputs: str, shape: tuple[int, int, int]) -> Draft:
    """The draft of an interrupted call with the same inputs, or a new one.

    Raises:
        BuildError: OUT is already there.
    """
    require_new(out)
    draft = Draft(out, inputs, shape)
    if not _taken_up(draft):
        shutil.rmtree(draft.folder, ignore_errors=True)
        try:
            draft.model.mkdir(parents=True)
        except OSError as error:
            raise writing(draft.model, error) from error
    return draft


def _taken_up(draft: Draft) -> bool:
    try:
        state: dict[str, Any] = json.loads((draft.folder / _STATE).read_text(encoding="utf-8"))
        shards = [Shard(**shard) for shard in state["shards"]]
        hidden = draft.folder / state["hidden"]["file"]
        whole = state["inputs"] == draft.inputs and of_file(hidden) == state["hidden"]["sha256"]
        whole = whole and all(of_file(draft.model / s.file) == s.sha256 for s in shards)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if whole:
        draft.shards, draft.hidden = shards, Activations(hidden, draft.shape)
    return whole
