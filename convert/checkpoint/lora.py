"""From a checkpoint with LoRA factors to what PEFT calls an adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from convert.checkpoint import keys
from convert.checkpoint.settings import TYPE, Unknown
from convert.checkpoint.state import Checkpoint
from convert.errors import AdapterError, UnsupportedError
from convert.merge.adapter import AdapterConfig
from convert.weights.tensors import TensorInfo

_KIND = "LoraConfig"
_DEFAULTS: Mapping[str, Any] = {"r": 8, "lora_alpha": 8}
"""PEFT's own, which a configuration that says nothing was trained with."""
_FACTOR_A = (".lora_A.weight", ".lora_embedding_A")


def adapter_config(checkpoint: Checkpoint, names: Mapping[str, str]) -> dict[str, Any]:
    """`adapter_config.json`: what the run says of its LoRA, completed from the tensors' names.

    Raises:
        AdapterError: the run does not say what a merge has to know, or its tensors disagree.
        UnsupportedError: it was another kind of adapter.
    """
    said = _lora(checkpoint)
    plain = list(keys.model_names(checkpoint.tensors.infos, str(checkpoint.path)))
    found: dict[str, Any] = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True,
        "base_model_name_or_path": base_of(checkpoint), **_DEFAULTS, "lora_dropout": 0.0,
        "bias": "none", "fan_in_fan_out": False, "use_rslora": False, "use_dora": False,
        "rank_pattern": {}, "alpha_pattern": {}, "init_lora_weights": True, **said,
    }  # fmt: skip
    if found.get("target_modules") is None:
        found["target_modules"] = keys.lora_modules(plain)
    if found.get("modules_to_save") is None:
        found["modules_to_save"] = keys.saved_modules(plain) or None
    _same_ranks(checkpoint, found, names)
    return dict(sorted(found.items()))


def base_of(checkpoint: Checkpoint) -> str | None:
    """Which base the run says it tuned."""
    model = checkpoint.run.get("model")
    llm = model.get("llm") if isinstance(model, dict) else None
    found = llm.get("pretrained_model_name_or_path") if isinstance(llm, dict) else None
    return found if isinstance(found, str) else None


def _lora(checkpoint: Checkpoint) -> dict[str, Any]:
    model = checkpoint.run.get("model")
    said = model.get("lora") if isinstance(model, dict) else None
    if not isinstance(said, dict):
        raise AdapterError(
            f"{checkpoint.path} holds LoRA factors, but its configuration says nothing of them "
            "(model.lora); without lora_alpha they cannot be scaled."
        )
    kind = said.get(TYPE, _KIND)
    if not isinstance(kind, str) or kind.rpartition(".")[2] != _KIND:
        shown = kind.source if isinstance(kind, Unknown) else kind
        raise UnsupportedError(
            f"{checkpoint.path} was trained with {shown}; only peft.{_KIND} adapters are converted."
        )
    for key, value in said.items():
        if not _plain(value):
            raise AdapterError(
                f"{checkpoint.path}: model.lora.{key} is computed by its configuration "
                f"({_source(value)}), which is read but never run."
            )
    return {key: value for key, value in said.items() if key != TYPE}


def _plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _source(value: Any) -> str:
    return value.source if isinstance(value, Unknown) else repr(value)


def _same_ranks(
    checkpoint: Checkpoint, config: Mapping[str, Any], names: Mapping[str, str]
) -> None:
    """The factors must have the ranks that the configuration claims; their product is scaled so."""
    try:
        claimed = AdapterConfig(
            int(config["r"]), float(config["lora_alpha"]), config["rank_pattern"] or {},
            config["alpha_pattern"] or {}, rslora=False, dora=False, fan_in_fan_out=False,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise AdapterError(
            f"{checkpoint.path}: its configuration is not one of a LoRA ({error})."
        ) from error
    for name, origin in names.items():
        end = next((end for end in _FACTOR_A if name.endswith(end)), None)
        if end is None:
            continue
        module = name.removesuffix(end).removeprefix("base_model.model.")
        info: TensorInfo = checkpoint.tensors.infos[origin]
        if info.rows != claimed.rank_of(module):
            raise AdapterError(
                f"{checkpoint.path}: {module} has factors of rank {info.rows}, its configuration "
                f"says {claimed.rank_of(module)}."
            )
