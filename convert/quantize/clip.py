"""How far the range of each group is narrowed, so that most weights lie on a finer grid.

Part of AWQ's program: a group's few largest weights are clipped where the output error grows less
by that than it shrinks by the finer steps. The error of a group's outputs over all calibration
tokens is Σₜ (xₜ·Δw)² = Δwᵀ (Σₜ xₜxₜᵀ) Δw, so the sums that `seen` keeps are enough and every token
counts, at the price of one small matrix product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convert.forward.int4 import by_group, grid, nearest, row_blocks
from convert.geometry import Role

SHRINKS = tuple(1 - step / 20 for step in range(1, 11))
"""The parts of a range that are tried, beside the whole."""

NEVER = (Role.query, Role.key)
"""Their errors are multiplied with each other and pass a softmax, which a sum of squares of their
own outputs does not see; AWQ leaves them alone too."""


def best_shrink(weight: Tensor, grams: Tensor, dtype: torch.dtype) -> Tensor:
    """The part of its range that serves each group best, (outputs, groups)."""
    group = grams.shape[-1]
    shrink = torch.ones(weight.shape[0], grams.shape[0], device=weight.device)
    for rows in row_blocks(weight):
        grouped = by_group(weight[rows], group)
        least = _error(grouped, grams, dtype, 1.0)
        best = torch.ones_like(least)
        for part in SHRINKS:
            error = _error(grouped, grams, dtype, part)
            better = error < least
            best.masked_fill_(better, part)
            least = torch.where(better, error, least)
        shrink[rows] = best
    return shrink


def _error(grouped: Tensor, grams: Tensor, dtype: torch.dtype, part: float) -> Tensor:
    scale, zero = grid(grouped, dtype, part)
    values = nearest(grouped, scale, zero).sub_(zero.unsqueeze(-1)).mul_(scale.unsqueeze(-1))
    delta = values.sub_(grouped).transpose(0, 1)
    return (delta @ grams).mul_(delta).sum(-1).T
