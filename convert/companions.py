"""Copies what belongs to a model besides its weights (tokenizer, templates) to another folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import writing
from convert.weights.model_folder import companions, config_text
from convert.weights.output import write_text


def write_companions(base: Path, folder: Path, config: Mapping[str, Any]) -> None:
    """Tokenizer, templates, generation config and remote code as the base has them; the
    configuration as the merge has made it (untouched, byte for byte, where it changed nothing).
    A GGUF file has them inside it."""
    if base.is_file():
        # Here, because it brings the gguf package, which most merges need not load.
        from convert.gguf.kept_tokenizer import write_inside

        write_inside(base, folder)
        write_text(folder / "config.json", config_text(config))
        return
    for path in companions(base):
        try:
            shutil.copyfile(path, folder / path.name)
        except OSError as error:
            raise writing(folder / path.name, error) from error
    if json.loads((folder / "config.json").read_text(encoding="utf-8")) != config:
        write_text(folder / "config.json", config_text(config))
