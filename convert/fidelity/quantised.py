"""How far a quantised model is from its original: layer by layer, and in what it answers.

Both folders are read as they lie on disk, one layer at a time, and both compute the same text that
calibration never saw. What counts is what the assistant says in it: a fine-tune has learned the
answers, and is surprised by most of a prompt, so figures over all tokens would be the prompts'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convert.errors import FidelityError
from convert.fidelity.divergence import Divergence
from convert.forward.batches import TOKENS, spans
from convert.forward.calibration import Held
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
    divergence: float
    """Of the quantised model's guess at a token from the original's, in nats, on average."""
    layers: tuple[LayerError, ...]

    @property
    def growth(self) -> float:
        """The factor by which perplexity has grown."""
        return self.quantised / self.original

    def manifest(self) -> dict[str, Any]:
        return {
            "answer_tokens": self.tokens,
            "divergence": self.divergence,
            "perplexity": {"original": self.original, "quantised": self.quantised},
            "perplexity_growth": self.growth,
            "layer_error": [{"own": e.own, "carried": e.carried} for e in self.layers],
        }

    def demand(self, limit: float | None) -> None:
        """Refuse a model whose answers have gone further from the original's than `limit`."""
        if limit is not None and not self.divergence <= limit:
            worst = max(range(len(self.layers)), key=lambda i: self.layers[i].own)
            raise FidelityError(
                f"Quantised, the model's guesses at the tokens of held-back answers diverge by "
                f"{self.divergence:.3g} from the original's where {limit:g} is allowed (perplexity "
                f"{self.quantised:.4g} instead of {self.original:.4g}; layer {worst} errs most); "
                "calibrate on more text of the assistant's own, or take it as it is "
                "(--accept-fidelity of convert, quantize)."
            )


def judge(
    original: Path,
    quantised: Path,
    held: Held,
    *,
    device: str = "cpu",
    task: Task | None = None,
) -> Fidelity:
    """Compare two model folders: their layers on every token, their guesses on the answers'."""
    with (
        torch.inference_mode(),
        open_checkpoint(original) as true,
        open_checkpoint(quantised) as near,
    ):
        real = held.real
        decoder = true.decoder(real.shape[1], device)
        hidden, drifted = true.embedded(held.tokens), near.embedded(held.tokens)
        errors = []
        for index in range(true.geometry.layers):
            layer = true.layer(index, device)
            after = _through(decoder, layer, hidden, device)
            layer = near.layer(index, device)  # replaces the first: one layer in memory
            own = _distance(_through(decoder, layer, hidden, device)[real], after[real])
            own /= _distance(after[real], hidden[real])
            drifted = _through(decoder, layer, drifted, device)
            errors.append(LayerError(own, _relative(drifted[real], after[real])))
            hidden = after
            if task is not None:
                task.advance(true.layer_bytes(index))
        said = _said(held)
        guesses = _compared(
            (true, _before_output(true, decoder, hidden, said)),
            (near, _before_output(near, decoder, drifted, said)),
            held.tokens[:, 1:][said], device=device,
        )  # fmt: skip
    tokens = int(said.sum())
    return Fidelity(
        tokens=tokens,
        original=math.exp(sum(part.true.sum for part in guesses) / tokens),
        quantised=math.exp(sum(part.near.sum for part in guesses) / tokens),
        divergence=sum(part.sum for part in guesses) / tokens,
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


def _said(held: Held) -> Tensor:
    """Which predictions are compared: every one, where a template shows no answer as it is."""
    answers = held.answers[:, 1:]
    return answers if answers.any() else held.real[:, 1:]


def _before_output(
    checkpoint: Checkpoint, decoder: Decoder, hidden: Tensor, said: Tensor
) -> Tensor:
    return rms_norm(hidden[:, :-1][said], checkpoint.final_norm("cpu"), decoder.eps)


def _compared(
    true: tuple[Checkpoint, Tensor],
    near: tuple[Checkpoint, Tensor],
    targets: Tensor,
    *,
    device: str,
) -> list[Divergence]:
    """Both models' guesses at each token, in parts that memory has room for."""
    parts = [slice(start, start + TOKENS) for start in range(0, len(targets), TOKENS)]
    found = [Divergence(targets[part]) for part in parts]
    (one, states), (other, drifted) = true, near
    for (first, mine), (_, theirs) in zip(one.head(), other.head(), strict=True):
        rows, others = mine.to(device), theirs.to(device)
        for part, divergence in zip(parts, found, strict=True):
            logits = (states[part].to(device) @ rows.T).cpu()
            divergence.add(first, logits, (drifted[part].to(device) @ others.T).cpu())
    return found
