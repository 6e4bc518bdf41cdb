"""The rule for a llama.cpp workspace: its one file can be read, and is what engine.json says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from gguf import GGUFReader

from convert.verify.report import REBUILD, Finding
from convert.verify.view import View
from convert.workspace import ENGINE, MANIFEST

_MATRICES = {"q8_0": "Q8_0", "f16": "F16", "f32": "F32"}


def readable(view: View) -> Iterator[Finding]:
    name = view.engine.get("model", "model.gguf")
    if name not in view.files:
        yield Finding(str(name), "is missing.", REBUILD)
        return
    try:
        found = GGUFReader(view.folder / str(name))
    except (ValueError, KeyError, IndexError, OSError, TypeError, MemoryError) as error:
        yield Finding(str(name), f"is not a whole GGUF file: {error}.", REBUILD)
        return
    yield from _tensors(view, str(name), found)
    yield from _context(view, str(name), found)


def _tensors(view: View, name: str, found: GGUFReader) -> Iterator[Finding]:
    told = (view.manifest.get("tensors") or {}).get("count")
    if told is not None and told != len(found.tensors):
        yield Finding(
            MANIFEST, f"counts {told} tensors, and {name} has {len(found.tensors)}.", REBUILD
        )
    kinds = Counter(t.tensor_type.name for t in found.tensors if len(t.shape) == 2)
    wanted = _MATRICES.get(view.engine.get("type", ""))
    most = kinds.most_common(1)[0][0] if kinds else "none"
    if wanted and most != wanted:
        yield Finding(
            ENGINE, f"type is {view.engine['type']}, and the matrices are {most}.", REBUILD
        )


def _context(view: View, name: str, found: GGUFReader) -> Iterator[Finding]:
    asked = view.engine.get("context")
    architecture = _value(found, "general.architecture")
    trained = _value(found, f"{architecture}.context_length")
    if isinstance(asked, int) and isinstance(trained, int) and asked > trained:
        yield Finding(
            ENGINE,
            f"context is {asked}, but the model in {name} has only {trained} positions.",
            f"Set llamacpp.context to {trained} or less.",
        )


def _value(found: GGUFReader, key: str) -> Any:
    field = found.get_field(key)
    return field.contents() if field else None
