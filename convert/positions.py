"""How far a model's positions reach, and how long its engine may let a conversation grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from assistants import Assistant
from convert.errors import DeclaredError

KEYS: Mapping[str, str] = {"turbomind": "session_len", "llamacpp": "context"}
"""What the length is called in the section of each engine."""


def rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """How positions are scaled, under either of the names Transformers gives it."""
    found = config.get("rope_parameters") or config.get("rope_scaling")
    return found if isinstance(found, dict) else {}


def rope_type(config: Mapping[str, Any]) -> str:
    return str(rope(config).get("rope_type") or rope(config).get("type") or "default")


def reach(config: Mapping[str, Any]) -> int | None:
    """The most positions the model knows; None where its configuration does not say."""
    trained = config.get("max_position_embeddings")
    return int(trained * _stretch(config)) if isinstance(trained, int) else None


def _stretch(config: Mapping[str, Any]) -> float:
    """How far scaled positions reach beyond max_position_embeddings; yarn and llama3 configs
    already count it in when they name the length they were trained with."""
    if rope_type(config) in ("default", "mrope"):
        return 1
    factor = rope(config).get("factor", 1)
    counted = "original_max_position_embeddings" in rope(config)
    return 1 if counted or not isinstance(factor, int | float) else max(1, factor)


def length(
    assistant: Assistant, engine: Literal["llamacpp", "turbomind"], config: Mapping[str, Any]
) -> int:
    """The tokens of a conversation: as declared, or the default where the model knows as many.

    Raises:
        DeclaredError: more are declared than the model knows.
    """
    section, key = getattr(assistant, engine), KEYS[engine]
    asked: int = getattr(section, key)
    most = reach(config)
    if most is None or asked <= most:
        return asked
    if key in section.model_fields_set:
        raise DeclaredError(
            (engine, key),
            f"{engine}.{key} is {asked}, but the model of '{assistant.name}' has only {most} "
            f"positions; write {most} or less, or scale the positions in its config.json (yarn).",
        )
    return most
