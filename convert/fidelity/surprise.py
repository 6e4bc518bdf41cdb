"""Perplexity from logits that come some tokens of the vocabulary at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Surprise:
    """How surprised a model is by each next token; logits of a whole vocabulary never exist."""

    def __init__(self, targets: Tensor) -> None:
        self._targets = targets
        self.total = torch.full(targets.shape, -math.inf)
        """The logarithm of the sum of what has passed."""
        self._own = torch.zeros(targets.shape)

    def add(self, first: int, logits: Tensor) -> None:
        """The logits (targets, tokens) of the tokens from `first` on."""
        self.total = torch.logaddexp(self.total, logits.logsumexp(-1))
        place = self._targets - first
        here = (place >= 0) & (place < logits.shape[-1])
        self._own[here] = logits[here, place[here]]

    @property
    def sum(self) -> float:
        """Over all targets, in nats."""
        return float((self.total - self._own).double().sum())
