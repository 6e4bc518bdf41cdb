"""Which dialogues a model is calibrated on where nobody names a file: its assistant's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from assistants import House
from convert.errors import ConvertError
from convert.run import dialogues_of
from convert.workspace import MANIFEST


def calibration_for(model: Path, name: str | None, house: Callable[[], House]) -> Path:
    """The dialogues of the assistant `name`, or of the one whose workspace the model is.

    Raises:
        ConvertError: nobody says which assistant, or it has none.
    """
    name = name or _built_for(model)
    if name is None:
        raise ConvertError(
            f"{model} does not say whose model it is; name the dialogues to fit it to with "
            "--calibration FILE.jsonl, or an assistant that has some with --assistant NAME."
        )
    found = house()
    path = dialogues_of(found.get(name), found)
    if path is None:
        raise ConvertError(
            f"The assistant '{name}' in {found.folder} has no dialogues to fit 4-bit weights to; "
            "name them with --calibration FILE.jsonl."
        )
    return path


def _built_for(model: Path) -> str | None:
    """The assistant a workspace's manifest names."""
    try:
        found = json.loads((model / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    name = found.get("name") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None
