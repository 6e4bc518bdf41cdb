"""Files that are for their owner alone, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def beside(file: Path, text: str) -> Path:
    """The new text in a file beside the old one; `replace` then puts it in its place."""
    part = file.with_name(f".{file.name}.new")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(text.encode())
    return part
