"""Merged weights against base and adapter apart: the same text through both, layer by layer.

Merging only rounds, once, to the format the base is stored in. What differs by more than that is
a mistake, and this is what sees it before a user does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from convert.fidelity.report import ROUNDING, MergeFidelity
from convert.fidelity.surprise import Surprise
from convert.fidelity.text import Text
from convert.fidelity.unmerged import Unmerged
from convert.forward.checkpoint import Checkpoint
from convert.forward.decoder import Decoder, Layer, rms_norm
from convert.forward.threads import threads
from convert.progress import Task

_CPU = "cpu"


class Model(Protocol):
    """What is computed, merged or not."""

    def embedded(self, tokens: Tensor) -> Tensor: ...
    def layer(self, index: int, device: str) -> Layer: ...
    def final_norm(self, device: str) -> Tensor: ...
    def logits(self, states: Tensor) -> Iterator[tuple[int, Tensor]]: ...


def compare(unmerged: Unmerged, merged: Checkpoint, text: Text, task: Task) -> MergeFidelity:
    """Both models on windows of token ids, one decoder layer in memory."""
    base = unmerged.base
    models: tuple[Model, Model] = (unmerged, merged)
    with torch.inference_mode(), threads(base.layer_bytes(0)):
        decoder = base.decoder(text.tokens.shape[1], _CPU)
        hidden = [model.embedded(text.tokens) for model in models]
        for index in range(base.geometry.layers):
            for place, model in enumerate(models):
                hidden[place] = _through(decoder, model, index, hidden[place])
            task.advance(base.layer_bytes(index))
        states = [
            _before_output(decoder, model, after)
            for model, after in zip(models, hidden, strict=True)
        ]
        difference = _Difference(text.tokens[:, 1:].flatten())
        for (first, true), (_, near) in zip(
            unmerged.logits(states[0]), merged.logits(states[1]), strict=True
        ):
            difference.add(first, true, near)
    dtypes = {info.dtype for info in merged.source.infos.values() if info.dtype in ROUNDING}
    dtype = max(dtypes, key=lambda dtype: ROUNDING[dtype])
    return difference.fidelity(text, dtype, base.geometry.layers)


def _through(decoder: Decoder, model: Model, index: int, hidden: Tensor) -> Tensor:
    return decoder.forward(model.layer(index, _CPU), hidden)


def _before_output(decoder: Decoder, model: Model, hidden: Tensor) -> Tensor:
    return rms_norm(hidden[:, :-1], model.final_norm(_CPU), decoder.eps).flatten(0, 1)


@dataclass(slots=True)
class _Sums:
    """Over every logit that has passed."""

    count: int = 0
    most: float = 0.0
    apart: float = 0.0


class _Difference:
    """Of two models' logits, which come some tokens of the vocabulary at a time."""

    def __init__(self, targets: Tensor) -> None:
        self._surprise = Surprise(targets), Surprise(targets)
        self._sums = _Sums()
        self._sum = torch.zeros(targets.shape, dtype=torch.float64)
        self._squares = torch.zeros(targets.shape, dtype=torch.float64)
        self._width = 0

    def add(self, first: int, true: Tensor, near: Tensor) -> None:
        for surprise, logits in zip(self._surprise, (true, near), strict=True):
            surprise.add(first, logits)
        self._width += true.shape[-1]
        self._sum += true.double().sum(-1)
        self._squares += true.double().square().sum(-1)
        apart = (true - near).abs()
        self._sums.count += apart.numel()
        self._sums.most = max(self._sums.most, float(apart.max()))
        self._sums.apart += float(apart.double().sum())

    def fidelity(self, text: Text, dtype: str, layers: int) -> MergeFidelity:
        mean = self._sum / self._width
        variance = (self._squares / self._width - mean.square()).clamp(min=0)
        unmerged, merged = (math.exp(s.sum / len(mean)) for s in self._surprise)
        return MergeFidelity(
            text=text.source, tokens=len(mean), dtype=dtype, layers=layers,
            most=self._sums.most, mean=self._sums.apart / self._sums.count,
            spread=float(variance.sqrt().mean()), unmerged=unmerged, merged=merged,
        )  # fmt: skip
