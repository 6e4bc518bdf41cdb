"""An adapter beside a matrix, not merged into it: y = m·(x·Wᵀ + s·((x·Aᵀ)·Bᵀ + c)).

c is what `lora_bias` adds. m is 1, or for DoRA the learnt length of each output divided by the
length of its row of W + s·B·A. The lengths come without that sum:
‖w + s·b·A‖² = ‖w‖² + 2s·b·(A·w) + s²·b·(A·Aᵀ)·bᵀ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from convert.geometry import Role


@dataclass(frozen=True, slots=True)
class LowRank:
    """Two factors, (rank, inputs) and (outputs, rank), and what their product is scaled by."""

    a: Tensor
    b: Tensor
    scale: float
    shift: Tensor | None = None
    """c, one number for each output."""
    magnitude: Tensor | None = None
    """DoRA's length of each output; until `stretch` is known, nothing can be computed."""
    stretch: Tensor | None = None
    """m, one number for each output."""

    def beside(self, x: Tensor, y: Tensor) -> Tensor:
        """What the adapted matrix makes of `x`, given what the matrix alone makes of it."""
        assert (self.magnitude is None) == (self.stretch is None)
        added = functional.linear(functional.linear(x, self.a), self.b, self.shift)
        y = y + added * self.scale
        return y if self.stretch is None else y * self.stretch

    def each(self, change: Callable[[Tensor], Tensor]) -> LowRank:
        """The same change to everything that has a number or a row per output."""
        found = (self.b, self.shift, self.magnitude, self.stretch)
        b, shift, magnitude, stretch = (None if t is None else change(t) for t in found)
        assert b is not None
        return replace(self, b=b, shift=shift, magnitude=magnitude, stretch=stretch)

    def apart(self, cut: Callable[[Tensor], Mapping[Role, Tensor]]) -> dict[Role, LowRank]:
        """For each part of a fused projection the outputs that are its own."""

        def only(role: Role) -> LowRank:
            return self.each(lambda rows: cut(rows)[role])

        return {role: only(role) for role in cut(self.b)}

    def outputs(self, start: int, stop: int | None) -> LowRank:
        """Some of the outputs."""
        return self.each(lambda rows: rows[start:stop])

    def to(self, device: str) -> LowRank:
        return replace(self.each(lambda tensor: tensor.to(device)), a=self.a.to(device))

    def over(self, weight: Tensor) -> LowRank:
        """Over this matrix (outputs, inputs), on which DoRA's m depends."""
        return self.over_rows(weight.square().sum(-1), weight @ self.a.T)

    def over_rows(self, squares: Tensor, projected: Tensor) -> LowRank:
        """Over a matrix of which ‖w‖² and A·w of each row are known."""
        if self.magnitude is None:
            return self
        a, b = self.a.double(), self.b.double()
        crossed = (projected.double() * b).sum(-1)
        own = ((b @ (a @ a.T)) * b).sum(-1)
        squared = squares.double() + 2 * self.scale * crossed + self.scale**2 * own
        return replace(self, stretch=self.magnitude / squared.sqrt().to(torch.float32))
