"""Rotary positions, as Hugging Face declares them and as llama.cpp reads them.

llama.cpp knows `linear` and `yarn` by their numbers. What Llama 3.1 does it knows as a tensor: by
how much the frequency of each pair of dimensions is divided. Formulae: transformers'
`modeling_rope_utils.py`, which the tests hold both against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGUFWriter, RopeScalingType

from convert.errors import UnsupportedError
from convert.weights.dtypes import Floats

DIVISORS = "rope_freqs.weight"
"""llama.cpp's name for the tensor."""

_TYPES = {"linear": RopeScalingType.LINEAR, "yarn": RopeScalingType.YARN}
_PLAIN = ("default", "dynamic", "linear", "llama3", "yarn")
_YARN = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""What every published model of this kind has; a GGUF file does not keep them."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding as a configuration declares it."""

    theta: float
    kind: Literal["linear", "yarn"] | None = None
    factor: float = 1.0
    original: int | None = None
    """How many positions it was trained on, where it has been stretched to more."""
    attention: float = 1.0
    """What attention is multiplied by beyond what llama.cpp itself does for this factor."""
    divisors: Floats | None = None
    """What the frequency of each pair of dimensions is divided by."""


def rope_of(config: Mapping[str, Any], head: int, *, takes_divisors: bool = True) -> Rope:
    """Both ways Hugging Face writes it: `rope_theta` + `rope_scaling`, or `rope_parameters`.

    Raises:
        UnsupportedError: llama.cpp has no way to compute it.
    """
    found = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = found.get("rope_type") or found.get("type") or "default"
    theta = float(found.get("rope_theta") or config.get("rope_theta") or 10000.0)
    part = found.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if kind not in _PLAIN or part != 1.0:
        what = f"by '{kind}'" if part == 1.0 else f"in only {part} of each head"
        raise UnsupportedError(
            f"The model scales its positions {what}, for which there is no rule (known: "
            f"{', '.join(_PLAIN)})."
        )
    if kind in ("default", "dynamic"):  # dynamic: changes only what is beyond the context length
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, "linear", float(found["factor"]))
    original = int(found.get("original_max_position_embeddings") or _longest(config))
    if kind == "llama3":
        if not takes_divisors:
            raise UnsupportedError(
                "The model scales its positions by 'llama3', which llama.cpp does for Llama only."
            )
        return Rope(theta, original=original, divisors=divisors(found, theta, head, original))
    return _yarn(found, theta, original)


def _longest(config: Mapping[str, Any]) -> int:
    return int(config.get("original_max_position_embeddings") or config["max_position_embeddings"])


def _yarn(found: Mapping[str, Any], theta: float, original: int) -> Rope:
    for name, usual in _YARN.items():
        if (said := found.get(name)) not in (None, usual):
            raise UnsupportedError(
                f"The model scales its positions by 'yarn' with {name}: {said}, which llama.cpp "
                "does not read for this kind of model."
            )
    factor = float(found["factor"])
    wanted = found.get("attention_factor")
    if wanted is None:
        own, all_dims = found.get("mscale"), found.get("mscale_all_dim")
        wanted = _sharper(factor)
        if own and all_dims:
            wanted = _sharper(factor, own) / _sharper(factor, all_dims)
    return Rope(theta, "yarn", factor, original, float(wanted) / _sharper(factor))


def _sharper(factor: float, weight: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def divisors(found: Mapping[str, Any], theta: float, head: int, original: int) -> Floats:
    """What Llama 3.1 divides frequencies by: slow ones by the factor, fast ones by nothing, and
    those in between by something in between."""
    factor = float(found["factor"])
    low, high = float(found["low_freq_factor"]), float(found["high_freq_factor"])
    waves = 2 * math.pi * theta ** (np.arange(0, head, 2, dtype=np.float64) / head)
    smooth = (original / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    slow, fast = waves > original / low, waves < original / high
    return np.where(slow, factor, np.where(fast, 1.0, between)).astype(np.float32)


def context_of(config: Mapping[str, Any], rope: Rope) -> int:
    """How many positions the model has: Qwen's configurations ask for YaRN without saying that it
    makes the context longer."""
    said = int(config["max_position_embeddings"])
    return max(said, int(rope.factor * (rope.original or 0))) if rope.kind == "yarn" else said


def describe(writer: GGUFWriter, rope: Rope) -> None:
    """Everything about positions but the tensor."""
    writer.add_rope_freq_base(rope.theta)
    if rope.kind is not None:
        writer.add_rope_scaling_type(_TYPES[rope.kind])
        writer.add_rope_scaling_factor(rope.factor)
    if rope.original is not None:
        writer.add_rope_scaling_orig_ctx_len(rope.original)
    if rope.attention != 1.0:
        writer.add_rope_scaling_attn_factors(rope.attention)


def declared(
    path: Path, of: Callable[..., Any], theta: float, divided: Floats | None
) -> dict[str, Any] | None:
    """The same as Hugging Face's `rope_scaling`; `of` looks up a key of the GGUF file.

    Raises:
        UnsupportedError: it cannot be said there.
    """
    kind, original = of("rope.scaling.type", "none"), of("rope.scaling.original_context_length", 0)
    if divided is not None:
        return _llama3(path, theta, divided, int(original) or 8192)
    if kind == "none":
        return None
    factor = float(of("rope.scaling.factor", 1.0))
    if kind == "linear":
        return {"type": kind, "factor": factor} if factor != 1.0 else None
    if kind != "yarn":
        raise UnsupportedError(
            f"{path}: it scales its positions by {kind}; known are linear, yarn."
        )
    return {
        "type": kind,
        "factor": factor,
        "original_max_position_embeddings": int(original or of("context_length")),
        "attention_factor": float(of("rope.scaling.attn_factor", 1.0)) * _sharper(factor),
    }


def _llama3(path: Path, theta: float, divided: Floats, original: int) -> dict[str, Any] | None:
    factor = float(divided.max())
    if factor == divided.min() == 1.0:
        return None
    said = {"factor": factor, **_LLAMA3}
    if np.allclose(divisors(said, theta, 2 * len(divided), original), divided, rtol=1e-4):
        return {"type": "llama3", **said, "original_max_position_embeddings": original}
    raise UnsupportedError(
        f"{path}: its {DIVISORS} are not those of Llama 3.1, so config.json cannot say them."
    )
