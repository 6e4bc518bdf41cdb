"""What calibration text shows of a layer: which inputs of its weights are large, and how they go
together. The text passes once; nothing of it is kept but sums and a few windows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from convert.forward.decoder import Site
from convert.forward.int4 import by_group


@dataclass(slots=True)
class Seen:
    """What arrived at one site."""

    group: int
    tokens: int = 0
    sum_of_sizes: Tensor = field(default_factory=lambda: torch.zeros(()))
    grams: Tensor = field(default_factory=lambda: torch.zeros(()))
    """Σ x·xᵀ within each group of inputs, (groups, group, group)."""
    windows: list[Tensor] = field(default_factory=list)
    """The inputs themselves, for those windows that the search computes with."""

    def add(self, x: Tensor) -> None:
        flat = x.flatten(0, -2)
        self.tokens += flat.shape[0]
        self.sum_of_sizes = self.sum_of_sizes.to(x.device) + flat.abs().sum(0)
        grouped = by_group(flat, self.group).permute(1, 2, 0)
        self.grams = self.grams.to(x.device) + grouped @ grouped.mT

    @property
    def mean_size(self) -> Tensor:
        """The mean |x| of each input."""
        return self.sum_of_sizes / self.tokens

    def scaled_grams(self, columns: Tensor) -> Tensor:
        """The grams of inputs divided by `columns`."""
        divisors = by_group(columns, self.group)
        return self.grams / (divisors.unsqueeze(1) * divisors.unsqueeze(2))


class Watching:
    """Notes what passes through a layer; handed to `Decoder.forward` as its tap."""

    def __init__(self, group: int, search: Collection[int]) -> None:
        self.at = {site: Seen(group) for site in Site}
        self._search = search
        self._first = 0

    def begin(self, first: int) -> None:
        """The windows that come next are numbered from `first`."""
        self._first = first

    def __call__(self, site: Site, x: Tensor) -> None:
        seen = self.at[site]
        seen.add(x)
        for i in range(x.shape[0]):
            if self._first + i in self._search:
                seen.windows.append(x[i : i + 1].clone())
