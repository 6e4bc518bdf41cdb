"""How far a quantised model is from its original: layer by layer, and in perplexity.

Both folders are read as they lie on disk, one layer at a time, and both compute the same text that
calibration never saw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convert.errors import FidelityError
from convert.fidelity.surprise import Surprise
from convert.forward.batches import TOKENS, spans
from convert.forward.checkpoint import Checkpoint, open_checkpoint
from convert.forward.decoder import Decoder, Layer, rms_norm
from convert.progress import Task


@dataclass(frozen=True, slots=True)
class LayerError:
    """What one layer does wrong."""

    own: float
    """Given the original's input: the error of what the layer adds, relative to what it adds."""
    carried: float
    """Given what the quantised layers before made of the text: the error of the hidden states,
    relative to these."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The judgement."""

    tokens: int
    """Predictions that were compared."""
    original: float
    """Perplexity of the original."""
    quantised: float
    layers: tuple[LayerError, ...]

    @property
    def growth(self) -> float:
        """The factor by which perplexity has grown."""
        return self.quantised / self.original

    def manifest(self) -> dict[str, Any]:
        return {
            "held_back_tokens": self.tokens,
            "perplexity": {"original": self.original, "quantised": self.quantised},
            "perplexity_growth": self.growth,
            "layer_error": [{"own": e.own, "carried": e.carried} for e in self.layers],
        }

    def demand(self, limit: float | None) -> None:
        """Refuse a model whose perplexity has grown by more than `limit`."""
        if limit is not None and not self.growth <= limit:
            worst = max(range(len(self.layers)), key=lambda i: self.layers[i].own)
            raise FidelityError(
                f"Quantised, the model's perplexity on held-back text is {self.quantised:.4g}, "
                f"which is {self.growth:.3g} times the original's {self.original:.4g} where "
                f"{limit:g} times is allowed (layer {worst} errs most); calibrate on more text of "
                "the assistant's own, or take it as it is (--accept-fidelity of convert, quantize)."
            )


def judge(
    original: Path, quantised: Path, held: Tensor, *, device: str = "cpu", task: Task | None = None
) -> Fidelity:
    """Compare two model folders on windows of token ids (windows, positions)."""
    with (
        torch.inference_mode(),
        open_checkpoint(original) as true,
        open_checkpoint(quantised) as near,
    ):
        decoder = true.decoder(held.shape[1], device)
        hidden, drifted = true.embedded(held), near.embedded(held)
        errors = []
        for index in range(true.geometry.layers):
            layer = true.layer(index, device)
            after = _through(decoder, layer, hidden, device)
            layer = near.layer(index, device)  # replaces the first: one layer in memory
            own = _distance(_through(decoder, layer, hidden, device), after)
            drifted = _through(decoder, layer, drifted, device)
            errors.append(LayerError(own / _distance(after, hidden), _relative(drifted, after)))
            hidden = after
            if task is not None:
                task.advance(true.layer_bytes(index))
        return Fidelity(
            tokens=held.shape[0] * (held.shape[1] - 1),
            original=_perplexity(true, decoder, hidden, held=held, device=device),
            quantised=_perplexity(near, decoder, drifted, held=held, device=device),
            layers=tuple(errors),
        )


def _through(decoder: Decoder, layer: Layer, hidden: Tensor, device: str) -> Tensor:
    out = torch.empty_like(hidden)
    for start, stop in spans(hidden.shape):
        out[start:stop] = decoder.forward(layer, hidden[start:stop].to(device)).cpu()
    return out


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm()) or 1e-30


def _relative(one: Tensor, other: Tensor) -> float:
    return _distance(one, other) / float(other.norm())


def _perplexity(
    checkpoint: Checkpoint, decoder: Decoder, hidden: Tensor, *, held: Tensor, device: str
) -> float:
    """exp of the mean surprise at each next token."""
    states = rms_norm(hidden[:, :-1], checkpoint.final_norm("cpu"), decoder.eps).flatten(0, 1)
    targets = held[:, 1:].flatten()
    parts = [slice(start, start + TOKENS) for start in range(0, len(targets), TOKENS)]
    surprises = [Surprise(targets[part]) for part in parts]
    for first, rows in checkpoint.head():
        block = rows.to(device)
        for part, surprise in zip(parts, surprises, strict=True):
            surprise.add(first, (states[part].to(device) @ block.T).cpu())
    return math.exp(sum(surprise.sum for surprise in surprises) / len(targets))
