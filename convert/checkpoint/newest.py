"""Which checkpoint is meant: the one named, or the newest by step in a folder of several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from convert.errors import UnsupportedError
from convert.merge.adapter import CONFIG

_STEP = re.compile(r"(?P<kind>iter_|epoch_|global_step|checkpoint-)(?P<step>\d+)(\.pth|\.pt)?")
_STATES = "*_model_states.pt"
_FILES = (".pth", ".pt", ".bin")


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a training checkpoint, or a folder of them, rather than a PEFT folder."""
    if path.is_file():
        return path.suffix in _FILES
    return path.is_dir() and not (path / CONFIG).exists() and bool(_is_zero(path) or _steps(path))


def newest(path: Path) -> Path:
    """The checkpoint itself: `path`, or the one of the highest step in it.

    Raises:
        UnsupportedError: there is none.
    """
    if not path.exists():
        raise UnsupportedError(f"There is no checkpoint {path}.")
    if path.is_file() or _is_zero(path) or (path / CONFIG).exists():
        return path
    steps = _steps(path)
    if not steps and (path / "config.json").exists():
        raise UnsupportedError(f"{path} is a model folder already; use it as a base.")
    if not steps:
        raise UnsupportedError(
            f"{path} is not a checkpoint: it holds no iter_N.pth, no DeepSpeed ranks "
            f"({_STATES}) and no {CONFIG}."
        )
    return newest(path / _last(str(path), steps))


def newest_name(where: str, names: Iterable[str]) -> str | None:
    """The one of the highest step among the names of checkpoints; None where none says a step.

    Raises:
        UnsupportedError: some count epochs and others steps.
    """
    found = ((_STEP.fullmatch(name), name) for name in names)
    steps = {(match["kind"], int(match["step"])): name for match, name in found if match}
    return _last(where, steps) if steps else None


def _last(where: str, steps: Mapping[tuple[str, int], str]) -> str:
    kinds = sorted({kind for kind, _ in steps})
    if len(kinds) > 1:
        shown = " and ".join(f"{kind}N" for kind in kinds)
        raise UnsupportedError(f"{where} counts its checkpoints in {shown}; name the one you mean.")
    return steps[max(steps)]


def explained(path: Path) -> str:
    """Which checkpoint was chosen and why, for the plan."""
    chosen, steps = newest(path), _steps(path) if path.is_dir() and not _is_zero(path) else {}
    if chosen == path:
        return f"{path.name} is a training checkpoint"
    return f"{chosen.name} is the newest of {len(steps)} training checkpoints by step"


def files(path: Path) -> list[Path]:
    """All files a checkpoint is read from."""
    chosen = newest(path)
    if chosen.is_file():
        return [chosen]
    return sorted(found for found in chosen.iterdir() if found.suffix in (".pt", ".json", ".bin"))


def _is_zero(path: Path) -> bool:
    return any(path.glob(_STATES)) or any(path.glob("*_optim_states.pt"))


def _steps(path: Path) -> dict[tuple[str, int], str]:
    """The checkpoints in a folder, by how they count and by step."""
    found = ((_STEP.fullmatch(entry.name), entry) for entry in path.iterdir())
    return {
        (match["kind"], int(match["step"])): entry.name
        for match, entry in found
        if match and (entry.is_file() or _is_zero(entry) or (entry / CONFIG).exists())
    }
