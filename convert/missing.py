"""The error for weights that are not where the user says, with the most likely correction."""

from __future__ import annotations

import re
from pathlib import Path

from assistants.errors import nearest
from assistants.weights import EMBEDDED

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILES = (".pth", ".pt", ".bin", ".safetensors", ".gguf")


def nowhere(given: str, looked: list[Path]) -> str:
    """For a reference of a declaration that leads to none of the places it may."""
    around: dict[str, Path] = {}
    for path in looked:
        if path.parent.is_dir():
            for sibling in sorted(path.parent.iterdir()):
                around.setdefault(sibling.name, sibling)
    near = nearest(Path(given).name, around)
    hint = f"; did you mean {around[near]}?" if near else "."
    if not around and _is_of_a_hub(given):
        hint = f"; if it is on Hugging Face, write hf://{given}@<commit>."
    return f"There is no '{given}': looked for {', '.join(map(str, looked))}{hint}"


def _is_of_a_hub(given: str) -> bool:
    """Whether it looks as hubs name their repositories, and not like a file of weights."""
    return bool(_REPOSITORY.fullmatch(given)) and Path(given).suffix not in _FILES


def no_folder(folder: Path) -> str:
    """For a folder that a command was given."""
    siblings = folder.parent.iterdir() if folder.parent.is_dir() else ()
    around = {path.name: path for path in siblings if path.is_dir()}
    if (EMBEDDED / folder.name).is_dir():
        return f"There is no folder {folder}; did you mean {EMBEDDED / folder.name}?"
    near = nearest(folder.name, around)
    return f"There is no folder {folder}{f'; did you mean {around[near]}?' if near else '.'}"
