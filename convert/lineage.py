"""Where a workspace's weights come from, for machines (manifest) and for people (model card)."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from assistants.weights import Hub, parse
from convert.plan import ADAPTER, GGUF, MERGE, RELAYOUT, Plan


def lineage(plan: Plan) -> dict[str, Any]:
    """From the base to what is in the folder, each with the digest of its content."""
    found: dict[str, Any] = {
        "base": {"reference": plan.base.reference, "sha256": plan.base.digest},
        "adapter": None,
        "merge": {
            "tool": MERGE,
            "accumulation": "fp32",
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    if plan.base.path is not None and plan.base.path.is_file():
        from convert.gguf.file import quantised_as  # the gguf package: only where it is needed

        if kinds := quantised_as(plan.base.path):
            found["base"]["dequantised"] = kinds
    if plan.adapter is not None:
        found["adapter"] = {
            "reference": plan.adapter.reference,
            "sha256": plan.adapter.digest,
        }
        if plan.adapter.needs:
            found["adapter"] |= {"tool": ADAPTER, "read": plan.adapter.needs}
    if plan.base.needs:
        found["relayout"] = {"tool": RELAYOUT, "reason": plan.base.needs}
    if plan.engine == "llamacpp":
        found["gguf"] = {"tool": GGUF, "type": plan.assistant.llamacpp.type}
    return found


def card(plan: Plan, lineage: Mapping[str, Any]) -> str:
    """README.md with the metadata Hugging Face reads."""
    quantised = plan.engine == "llamacpp" and plan.assistant.llamacpp.type == "q8_0"
    metadata: dict[str, Any] = {
        "base_model": _hub_name(plan.base.reference),
        "base_model_relation": "quantized" if quantised else "merge",
        "tags": ["hanlin", plan.engine],
    }
    front = yaml.safe_dump(metadata, allow_unicode=True, sort_keys=False)
    assistant = plan.assistant
    adapter = plan.adapter.reference if plan.adapter else "none"
    return (
        f"---\n{front}---\n# {assistant.title.en} · {assistant.title.zh}\n\n"
        f"{assistant.description.en}\n\n{assistant.description.zh}\n\n"
        f"| | |\n|---|---|\n| base | `{plan.base.reference}` |\n| adapter | `{adapter}` |\n"
        f"| merged with | {lineage['merge']['tool']}, fp32 accumulation |\n"
        f"| engine | {plan.engine} |\n\n"
        "Made by `hanlin convert`; `manifest.json` has the SHA-256 of every file and input.\n"
    )


def _hub_name(reference: str) -> str:
    weights = parse(reference)
    return weights.repo if isinstance(weights, Hub) else reference.rstrip("/").rpartition("/")[2]
