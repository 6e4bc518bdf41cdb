"""The folder an engine loads: where it lies, and what it was built from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from convert.plan import UNJUDGED, WORKSPACE_SCHEMA, Engine

MANIFEST = "manifest.json"
ENGINE = "engine.json"
CACHE = ".cache"
"""Inside the folder of workspaces: remembered digests, and what was fetched or read for a build."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """One workspace on the disk."""

    assistant: str
    engine: Engine
    folder: Path
    rebuilt: bool
    """Whether this run made it or changed it."""


def place(workspaces: Path, name: str, engine: Engine) -> Path:
    """Where an assistant's workspace for an engine lies."""
    return workspaces / name / engine


def built_digests(folder: Path) -> dict[str, str]:
    """The digests a workspace was built from; none where it is missing or incomplete.

    Sizes are compared with the manifest, contents are not: that is `hanlin verify`'s business.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, file in manifest["files"].items():
            if (folder / name).stat().st_size != file["size"]:
                return {}
        if manifest["schema"] != WORKSPACE_SCHEMA:
            return {}
        found = dict(manifest["digests"])
        if "quantize" in found and "divergence" not in manifest["quantization"]["fidelity"]:
            found |= {"quantize": UNJUDGED, "assemble": UNJUDGED}
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
