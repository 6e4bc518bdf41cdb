"""An assistant's own dialogues: what 4-bit weights are fitted to, and what a merge is judged on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from assistants import Assistant, House
from assistants.weights import Local, places
from convert.errors import ConvertError, FetchError
from convert.missing import no_folder
from convert.workspace import MANIFEST


def dialogues_of(assistant: Assistant, house: House) -> Path | None:
    """The declared file, or the one beside the declaration; None where there is neither."""
    found = places(Local(declared(assistant)), house.folder)
    return next((path for path in found if path.is_file()), None)


def declared(assistant: Assistant) -> str:
    """What its file is called in the declaration, or would be."""
    return assistant.turbomind.calibration or f"calibration/{assistant.name}.jsonl"


def calibration_for(model: Path, name: str | None, house: Callable[[], House]) -> Path:
    """What a model is calibrated on where nobody names a file: the dialogues of the assistant
    `name`, or of the one whose workspace the model is.

    Raises:
        ConvertError: nobody says which assistant, or it has none.
    """
    if not model.is_dir():
        raise FetchError(no_folder(model))
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
