"""Rules about the folder as a whole: closed, unchanged, and known to be the model it should be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from convert import digests
from convert.quantize.settings import Settings
from convert.verify.report import REBUILD, Finding, NotApplicable
from convert.verify.view import View
from convert.workspace import MANIFEST

PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin")
"""Endings of files that Python unpickles, which can run whatever they say."""


def closed(view: View) -> Iterator[Finding]:
    """Nothing that can run code, nothing changed, nothing added, nothing gone."""
    pickles = sorted(name for name in view.files if name.endswith(PICKLES))
    for name in pickles:
        yield Finding(name, "is a pickle, which can run code when it is read.", "Remove it.")
    listed = view.manifest.get("files")
    if not isinstance(listed, dict):
        yield Finding(MANIFEST, "lists no files.", REBUILD)
        return
    for name, said in sorted(listed.items()):
        yield from _unchanged(view, name, said)
    for name in sorted(view.files - listed.keys() - {MANIFEST} - set(pickles)):
        yield Finding(name, "is not in the manifest: it was put here later.", "Remove it.")


def _unchanged(view: View, name: str, said: Any) -> Iterator[Finding]:
    if name not in view.files:
        yield Finding(name, "is in the manifest but not in the folder.", REBUILD)
    elif view.fresh:
        return
    elif not isinstance(said, dict) or digests.of_file(view.folder / name) != said.get("sha256"):
        yield Finding(name, "is not what was written: its SHA-256 is another.", REBUILD)


def faithful(view: View) -> Iterator[Finding]:
    """What was measured when the workspace was built stays within what was allowed."""
    measured = _measured(view.manifest)
    if measured is None:
        if view.quantization is None:
            raise NotApplicable("16-bit weights, and the manifest measured nothing")
        if _came_quantised(view.manifest):
            raise NotApplicable("the base came quantised; its original is not here to compare with")
        yield Finding(
            MANIFEST,
            "the weights are quantised, and nobody measured what that changed.",
            "Quantise with hanlin quantize, which writes the measurement into the manifest.",
        )
        return
    limit = measured.get("limit", Settings().limit)
    apart = measured.get("divergence")
    wrong = [_layer(i, said) for i, said in enumerate(measured.get("layer_error") or [])]
    for name, value in (
        ("divergence", apart),
        *(pair for layer in wrong for pair in layer),
    ):
        if not isinstance(value, int | float) or not math.isfinite(value):
            yield Finding(MANIFEST, f"fidelity: {name} is {value!r}.", REBUILD)
            return
    if limit is not None and apart > limit:
        yield Finding(
            MANIFEST,
            f"quantised, guesses at answers diverge by {apart:g} from the original's; {limit:g} is "
            "allowed.",
            "Calibrate on more and more typical dialogues, or serve it in 16 bits.",
        )


def _layer(index: int, said: Any) -> list[tuple[str, Any]]:
    if not isinstance(said, Mapping):
        return [(f"layer_error of layer {index}", said)]
    return [(f"layer_error {name} of layer {index}", value) for name, value in said.items()]


def _came_quantised(manifest: Mapping[str, Any]) -> bool:
    base = (manifest.get("lineage") or {}).get("base")
    return isinstance(base, Mapping) and bool(base.get("quantised"))


def _measured(manifest: Any) -> Mapping[str, Any] | None:
    """The measurement, at the top or in the step of the lineage that made it."""
    if not isinstance(manifest, Mapping):
        return None
    if isinstance(found := manifest.get("fidelity"), Mapping) and found and "merge" not in found:
        return found
    inner = (_measured(value) for value in manifest.values())
    return next((found for found in inner if found is not None), None)
