"""How far one model's guesses are from another's, from logits that come some tokens of the
vocabulary at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from convert.fidelity.surprise import Surprise


class Divergence:
    """Kullback-Leibler's, of the guesses at each next token: what is lost where `near` guesses in
    the place of `true`."""

    def __init__(self, targets: Tensor) -> None:
        self.true, self.near = Surprise(targets), Surprise(targets)
        self._most = torch.full(targets.shape, -math.inf)
        self._mass = torch.zeros(targets.shape)
        self._apart = torch.zeros(targets.shape)

    def add(self, first: int, true: Tensor, near: Tensor) -> None:
        """The logits (targets, tokens) of both for the tokens from `first` on."""
        self.true.add(first, true)
        self.near.add(first, near)
        most = torch.maximum(self._most, true.amax(-1))
        kept = (self._most - most).exp()
        mass = (true - most[:, None]).exp()
        self._mass = self._mass * kept + mass.sum(-1)
        self._apart = self._apart * kept + (mass * (true - near)).sum(-1)
        self._most = most

    @property
    def sum(self) -> float:
        """Over all targets, in nats."""
        total = self._apart / self._mass - self.true.total + self.near.total
        return float(total.double().sum())
