"""Rotary position embedding: from what a configuration says to a cosine and a sine per position."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from convert.errors import UnsupportedError

Table = tuple[Tensor, Tensor]
"""Cosines and sines, each (positions, head size)."""


def rope_table(config: Mapping[str, Any], head_dim: int, positions: int) -> Table:
    """The rotation of each position.

    Raises:
        UnsupportedError: a kind of scaling there is no rule for.
    """
    found = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = found.get("rope_type") or found.get("type") or "default"
    theta = float(found.get("rope_theta") or config.get("rope_theta") or 10000.0)
    partial = found.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if partial != 1.0:
        raise UnsupportedError(f"The model rotates only {partial} of each head; there is no rule.")
    steps = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    inverse, strength = 1.0 / theta**steps, 1.0
    if kind == "linear":
        inverse = inverse / float(found["factor"])
    elif kind == "llama3":
        inverse = _llama3(inverse, found)
    elif kind == "yarn":
        inverse, strength = _yarn(inverse, theta, head_dim, {**config, **found})
    elif kind not in ("default", "dynamic"):  # dynamic begins only beyond the trained length
        raise UnsupportedError(
            f"The model scales its positions by '{kind}', for which there is no rule (known: "
            "default, linear, dynamic, llama3, yarn)."
        )
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), inverse)
    both = torch.cat([angles, angles], dim=-1)
    return both.cos() * strength, both.sin() * strength


def _llama3(inverse: Tensor, found: Mapping[str, Any]) -> Tensor:
    """Llama 3.1: slow rotations are stretched, fast ones kept, those between are blended."""
    factor, trained = float(found["factor"]), float(found["original_max_position_embeddings"])
    low, high = float(found["low_freq_factor"]), float(found["high_freq_factor"])
    turns = trained * inverse / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return inverse * (kept + (1 - kept) / factor)


def _yarn(
    inverse: Tensor, theta: float, head_dim: int, found: Mapping[str, Any]
) -> tuple[Tensor, float]:
    """YaRN (arXiv:2309.00071): blended by how often a rotation turns within the trained length."""
    trained = float(
        found.get("original_max_position_embeddings") or found["max_position_embeddings"]
    )
    factor = float(found.get("factor") or found["max_position_embeddings"] / trained)

    def dimension(turns: float) -> float:
        return head_dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(found.get("beta_fast") or 32), dimension(found.get("beta_slow") or 1)
    if found.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    places = torch.arange(head_dim // 2, dtype=torch.float32)
    stretched = ((places - low) / (high - low or 0.001)).clamp(0, 1)
    return inverse * (1 - stretched + stretched / factor), _strength(found, factor)


def _strength(found: Mapping[str, Any], factor: float) -> float:
    def mscale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if found.get("attention_factor") is not None:
        return float(found["attention_factor"])
    if found.get("mscale") and found.get("mscale_all_dim"):
        return mscale(found["mscale"]) / mscale(found["mscale_all_dim"])
    return mscale(1.0)
