"""The 4-bit grid: weights in groups along their inputs, each group with a scale and a zero point.

    w ≈ (code − zero) · scale        code, zero ∈ 0…15

Scales are rounded to the format they will be stored in before codes are chosen, so the codes are
right for what the engine really multiplies with. Nothing here knows a file layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TOP = 15
"""The greatest code."""

_BLOCK = 1 << 22
"""Weights worked on at a time; temporaries are some multiple of this, whatever the matrix."""


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantised matrix of shape (outputs, inputs)."""

    codes: Tensor
    """uint8, (outputs, inputs)."""
    scales: Tensor
    """(outputs, inputs / group), in the format they are stored in."""
    zeros: Tensor
    """uint8, (outputs, inputs / group)."""

    @property
    def group(self) -> int:
        return self.codes.shape[1] // self.scales.shape[1]


def by_group(rows: Tensor, group: int) -> Tensor:
    """The last axis in groups, which become the last axis."""
    return rows.reshape(*rows.shape[:-1], -1, group)


def row_blocks(weight: Tensor) -> Iterator[slice]:
    """The rows of a matrix, a bounded number of weights at a time."""
    step = max(1, _BLOCK // weight.shape[1])
    for start in range(0, weight.shape[0], step):
        yield slice(start, start + step)


def quantise(weight: Tensor, group: int, dtype: torch.dtype, shrink: Tensor | None = None) -> Codes:
    """The nearest codes of an fp32 matrix; `shrink` narrows the range of each group."""
    outputs, inputs = weight.shape
    codes = torch.empty((outputs, inputs), dtype=torch.uint8, device=weight.device)
    scales = torch.empty((outputs, inputs // group), dtype=dtype, device=weight.device)
    zeros = torch.empty(scales.shape, dtype=torch.uint8, device=weight.device)
    for rows in row_blocks(weight):
        grouped = by_group(weight[rows], group)
        factor = None if shrink is None else shrink[rows]
        scale, zero = grid(grouped, dtype, factor)
        codes[rows] = nearest(grouped, scale, zero).flatten(1).to(torch.uint8)
        scales[rows] = scale.to(dtype)
        zeros[rows] = zero.to(torch.uint8)
    return Codes(codes, scales, zeros)


def dequantise(quantised: Codes, out: Tensor | None = None) -> Tensor:
    """The fp32 matrix that codes stand for, written into `out` where one is given."""
    if out is None:
        shape = quantised.codes.shape
        out = torch.empty(shape, dtype=torch.float32, device=quantised.codes.device)
    for rows in row_blocks(out):
        grouped = by_group(quantised.codes[rows], quantised.group).float()
        grouped -= quantised.zeros[rows].unsqueeze(-1)
        grouped *= quantised.scales[rows].float().unsqueeze(-1)
        out[rows] = grouped.flatten(1)
    return out


def rounded(weight: Tensor, group: int, dtype: torch.dtype, columns: Tensor) -> Tensor:
    """What is left of a matrix quantised under a scaling of its inputs: Q(W·diag(s))·diag(s)⁻¹."""
    out = torch.empty_like(weight)
    for rows in row_blocks(weight):
        grouped = by_group(weight[rows] * columns, group)
        scale, zero = grid(grouped, dtype)
        values = nearest(grouped, scale, zero)
        values.sub_(zero.unsqueeze(-1)).mul_(scale.unsqueeze(-1))
        torch.div(values.flatten(1), columns, out=out[rows])
    return out


def grid(
    grouped: Tensor, dtype: torch.dtype, shrink: Tensor | float | None = None
) -> tuple[Tensor, Tensor]:
    """Scale and zero point (as fp32) of each group, the last axis of `grouped`.

    The range always reaches to 0: a zero point lies on the grid, so a group of one sign would
    otherwise lose its far end.
    """
    low, high = torch.aminmax(grouped, dim=-1)
    low, high = low.clamp_(max=0), high.clamp_(min=0)
    if shrink is not None:
        low, high = low * shrink, high * shrink
    scale = (high - low) / TOP
    scale = scale.clamp_(min=torch.finfo(dtype).smallest_normal / 64).to(dtype).float()
    zero = torch.round(-low / scale).clamp_(0, TOP)
    return scale, zero


def nearest(grouped: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """The nearest code of each weight, as fp32."""
    codes = (grouped / scale.unsqueeze(-1)).round_()
    return codes.add_(zero.unsqueeze(-1)).clamp_(0, TOP)
