"""The two update rules: Muon for decoder matrices, Adam for embeddings and norms."""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Newton-Schulz iteration that pushes all singular values of `matrix` towards one."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.size(0) > matrix.size(1)
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


@torch.no_grad()
def muon(
    weight: Tensor,
    gradient: Tensor,
    moments: Tensor,
    rate: float,
    momentum: float = 0.95,
    decay: float = 0.02,
) -> None:
    """One Muon step with Nesterov momentum; `moments[0]` holds the momentum."""
    moments[0].lerp_(gradient, 1 - momentum)
    update = orthogonalise(gradient.lerp(moments[0], momentum))
    scale = max(1.0, weight.size(0) / weight.size(1)) ** 0.5
    weight.mul_(1 - rate * decay).add_(update, alpha=-rate * scale)


@torch.no_grad()
def adam(
    weight: Tensor,
    gradient: Tensor,
    moments: Tensor,
    rate: float,
    step: int,
    betas: tuple[float, float] = (0.9, 0.97),
) -> None:
    """One Adam step; `moments` holds the first and the second moment."""
    moments[0].lerp_(gradient, 1 - betas[0])
    moments[1].lerp_(gradient.square(), 1 - betas[1])
    first = moments[0] / (1 - betas[0] ** (step + 1))
    second = moments[1] / (1 - betas[1] ** (step + 1))
    weight.addcdiv_(first, second.sqrt().add_(1e-8), value=-rate)
