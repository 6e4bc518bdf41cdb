"""What was measured of a merge, for the manifest; plain values, so that they need no PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from convert.errors import FidelityError

ROUNDING = {"BF16": 2.0**-8, "F16": 2.0**-11, "F32": 2.0**-24}
"""The most that rounding to a format changes a number, relative to the number."""

ALLOWED = 6.0
"""How often that may be found again in the logits, times the root of the number of layers, as
independent errors add up. Measured (docs/workspace.md): 0.1 to 0.6 on the trained base, 0.8 to 2.3
on made models, whose random weights hand every error on."""

ARITHMETIC = 1e-5
"""What summing in fp32 in another order changes in one layer (measured: 1e-6); for a model stored
in fp32 it is all there is."""


@dataclass(frozen=True, slots=True)
class MergeFidelity:
    """Merged weights against base and adapter apart, on the same text."""

    text: str
    """Where the text comes from."""
    tokens: int
    """Predictions that were compared."""
    most: float
    """The greatest absolute difference of a logit."""
    mean: float
    """The mean absolute difference."""
    spread: float
    """The standard deviation of the logits of a position: what a difference is small against."""
    unmerged: float
    """Perplexity of base and adapter."""
    merged: float
    layers: int
    dtype: str
    """The coarsest format the merged weights are stored in."""

    @property
    def relative(self) -> float:
        """The mean difference, relative to the spread."""
        return self.mean / self.spread

    @property
    def limit(self) -> float:
        """Of `relative`: what rounding alone explains."""
        return math.sqrt(self.layers) * (ALLOWED * ROUNDING[self.dtype] + ARITHMETIC)

    @property
    def holds(self) -> bool:
        return self.relative <= self.limit

    def manifest(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "tokens": self.tokens,
            "logit_difference": {"max": self.most, "mean": self.mean, "relative": self.relative},
            "limit": self.limit,
            "perplexity": {"unmerged": self.unmerged, "merged": self.merged},
        }

    def demand(self) -> None:
        """Refuse a merge whose difference rounding does not explain."""
        if not self.holds:
            raise FidelityError(
                f"Merged, the model's logits differ from those of base and adapter by "
                f"{self.relative:.2g} of their spread on average where rounding to {self.dtype} "
                f"explains at most {self.limit:.2g} (perplexity {self.merged:.4g} instead of "
                f"{self.unmerged:.4g}); report it with the adapter's configuration, or take the "
                "model as it is with hanlin convert --accept-fidelity."
            )


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """Nothing was measured."""

    why: str

    def manifest(self) -> dict[str, Any]:
        return {"not_measured": self.why}
