"""Decides what to fetch of a model repository: one form of the weights, and what is beside them.

A repository may hold a training checkpoint instead, as XTuner leaves it: then the newest is it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convert.checkpoint.newest import newest_name
from convert.errors import FetchError
from convert.weights.model_folder import COMPANIONS

_FORMS = (
    (".safetensors", ".safetensors.index.json"),
    (".bin", ".bin.index.json"),
)
_NAMES = ("model", "adapter_model", "pytorch_model")
_STATES = ("_model_states.pt", "_optim_states.pt")


@dataclass(frozen=True, slots=True)
class Choice:
    """Files of a repository, and which of them is meant."""

    files: list[str]
    inside: str = ""
    """Where the checkpoint lies in the folder; empty: the folder itself is the model."""


def choose(files: Iterable[str]) -> Choice:
    """What to fetch of these files.

    Raises:
        FetchError: there is more than one checkpoint, and no telling which is meant.
    """
    names = list(files)
    top = [name for name in names if "/" not in name]
    beside = [n for n in top if n.endswith(COMPANIONS) and not n.endswith(".index.json")]
    for endings in _FORMS:
        weights = [n for n in top if n.endswith(endings) and n.startswith(_NAMES)]
        if weights:
            return Choice(sorted(beside + weights))
    checkpoint = _checkpoint(names)
    if checkpoint is None:
        return Choice(sorted(beside))
    return Choice([n for n in names if n == checkpoint or _is_state(n, checkpoint)], checkpoint)


def _checkpoint(names: list[str]) -> str | None:
    """The newest training checkpoint by its name, or the only file that can be one."""
    folders = {n.rpartition("/")[0] for n in names if n.endswith(_STATES)}
    found = [n for n in names if "/" not in n and n.endswith(".pth")]
    candidates = [*found, *(folder for folder in folders if "/" not in folder)]
    if newest := newest_name("the repository", candidates):
        return newest
    if len(candidates) > 1:
        shown = ", ".join(sorted(candidates)[:4])
        raise FetchError(
            f"The repository holds {len(candidates)} checkpoints ({shown}) whose names give no "
            "step; fetch the one you mean yourself, and name its file."
        )
    return candidates[0] if candidates else None


def _is_state(name: str, folder: str) -> bool:
    """Whether a file is a part of that DeepSpeed checkpoint."""
    return name.rpartition("/")[0] == folder and name.endswith(_STATES)
