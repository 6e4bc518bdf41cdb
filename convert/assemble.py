"""The last step towards a workspace: engine.json, model card and manifest beside the weights."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convert import digests
from convert.fit.memory import kv_bytes_per_token
from convert.lineage import card, lineage
from convert.plan import WORKSPACE_SCHEMA, Plan
from convert.positions import KEYS, length
from convert.weights.dtypes import TORCH_NAMES
from convert.weights.model_folder import read_json
from convert.weights.output import Written, write_text
from convert.weights.tensors import TensorInfo
from convert.workspace import ENGINE, MANIFEST

CARD = "README.md"
_WRITTEN_LAST = (MANIFEST, ENGINE, CARD)

_COMPUTED_IN = ("BF16", "F16")
"""The formats TurboMind computes in."""


def tensor_summary(infos: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """How many tensors, how many bytes, in which formats."""
    return {
        "count": len(infos),
        "bytes": sum(info.size for info in infos.values()),
        "dtypes": dict(Counter(info.dtype for info in infos.values())),
    }


def finish(
    plan: Plan,
    folder: Path,
    weights: Mapping[str, Written],
    tensors: Mapping[str, Any],
    fidelity: Mapping[str, Any] | None,
    *,
    quantization: Mapping[str, Any] | None = None,
) -> None:
    """Everything but the weights: engine.json, model card and manifest, in that order.

    `fidelity` is how close the merge is to base and adapter; `quantization` what the quantiser
    tells of its work and of how close that is to the merged model.
    """
    config = read_json(folder / "config.json")
    origin = lineage(plan)
    settings = {**plan.settings, **_of_model(plan, config, tensors)}
    if not quantization and (method := settings.get("model_format", "hf")) != "hf":
        origin["base"]["quantised"] = method  # by whoever published it
    write_text(folder / ENGINE, _json(settings))
    write_text(folder / CARD, card(plan, origin))
    files = {name: {"sha256": w.sha256, "size": w.size} for name, w in weights.items()}
    for path in sorted(folder.iterdir()):
        if path.name not in files:
            files[path.name] = {"sha256": digests.of_file(path), "size": path.stat().st_size}
    manifest = {
        "schema": WORKSPACE_SCHEMA,
        "name": plan.assistant.name,
        "engine": plan.engine,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "digests": plan.digests,
        "files": dict(sorted(files.items())),
        "tensors": tensors,
        "lineage": origin,
        **({"fidelity": fidelity} if fidelity else {}),
        **({"quantization": quantization} if quantization else {}),
        "memory": {
            "weights": sum(w.size for w in weights.values()),
            "kv_per_token": kv_bytes_per_token(config, _cache_bits(plan)),
        },
    }
    write_text(folder / MANIFEST, _json(manifest))


def _of_model(plan: Plan, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the model itself decides, or has a word in."""
    settings: dict[str, Any] = {KEYS[plan.engine]: length(plan.assistant, plan.engine, config)}
    if plan.engine == "turbomind":
        dtypes = [name for name in tensors["dtypes"] if name in _COMPUTED_IN]
        settings["dtype"] = TORCH_NAMES[dtypes[0]] if dtypes else "auto"
        found = config.get("quantization_config")  # our quantiser's, or the base's own
        settings["model_format"] = found["quant_method"] if found else "hf"
    return settings


def reuse(plan: Plan, folder: Path) -> None:
    """A new folder with the old weights and new settings: links, so no weights are copied."""
    manifest = read_json(plan.target / MANIFEST)
    for name in manifest["files"]:
        if name not in _WRITTEN_LAST:
            _link(plan.target / name, folder / name)
    weights = {
        name: Written(file["sha256"], file["size"])
        for name, file in manifest["files"].items()
        if name.endswith((".gguf", ".safetensors"))
    }
    finish(
        plan, folder, weights, manifest["tensors"], manifest.get("fidelity"),
        quantization=manifest.get("quantization"),
    )  # fmt: skip


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _cache_bits(plan: Plan) -> int:
    return plan.assistant.turbomind.quant_policy or 16 if plan.engine == "turbomind" else 16


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
