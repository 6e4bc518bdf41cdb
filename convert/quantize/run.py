"""Quantises a model folder, one decoder layer in memory at a time.

Calibration text passes the layers as the original computes them. Of each layer it leaves sums and
a few windows; from these the layer is quantised and written, then the next is read. The finished
folder is judged on held-back text before it is given its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convert.companions import write_companions
from convert.digests import of_file
from convert.errors import UnsupportedError
from convert.fidelity.quantised import Fidelity, judge
from convert.forward.batches import spans
from convert.forward.calibration import Calibration, read_calibration
from convert.forward.chat import read_chat
from convert.forward.checkpoint import FLOATS, Checkpoint, open_checkpoint
from convert.forward.decoder import Decoder
from convert.forward.layout import Layout, choose
from convert.progress import Progress, Task
from convert.publish import locked
from convert.quantize.activations import Activations
from convert.quantize.device import computing, fingerprint, settled
from convert.quantize.draft import Draft, open_draft
from convert.quantize.layer import quantised_layer, stored_layer
from convert.quantize.report import Quantised
from convert.quantize.scale import Format
from convert.quantize.seen import Watching
from convert.quantize.settings import Settings
from convert.quantize.shard import copy_tensors, index_text, write_tensors
from convert.weights.dtypes import TORCH_NAMES
from convert.weights.model_folder import weight_files
from convert.weights.output import write_text
from convert.weights.safetensors_files import INDEX

ALGORITHM = 2
"""Raised whenever the same inputs would give other bytes, so that no draft is taken up wrongly."""

SEARCH_TOKENS = 2048
"""Of the calibration text, how much each candidate of the scale search computes with."""


@dataclass(frozen=True, slots=True)
class Job:
    """One quantisation, decided."""

    checkpoint: Checkpoint
    calibration: Calibration
    settings: Settings
    layout: Layout
    target: Format
    stored: str
    """The name safetensors gives to `target.dtype`."""

    def file(self, number: int) -> str:
        """The name of a file; number 0 holds what belongs to no layer."""
        total = self.checkpoint.geometry.layers + 1
        return f"model-{number + 1:05}-of-{total:05}.safetensors"


def layer_by_layer(
    model: Path, out: Path, calibration: Path, settings: Settings, progress: Progress
) -> Quantised:
    """`convert.quantize.quantize`, once PyTorch is known to be here."""
    out = out.absolute()
    with open_checkpoint(model) as checkpoint:
        layer = checkpoint.layer_bytes(0)
        settings = settled(settings, layer)
        with computing(settings, layer), locked(out):
            job = _decide(checkpoint, calibration, settings)
            fidelity = _carried_out(job, model, out, progress)
    return Quantised(out, settings, job.layout.config(), job.calibration, fidelity)


def _carried_out(job: Job, model: Path, out: Path, progress: Progress) -> Fidelity:
    """Every layer, the judgement, and the folder under its name."""
    checkpoint, used = job.checkpoint, job.calibration.used
    draft = open_draft(out, _fingerprint(job), (*used.shape, checkpoint.geometry.hidden))
    layers = sum(map(checkpoint.layer_bytes, range(checkpoint.geometry.layers)))
    outside = sum(info.size for info in checkpoint.outside())
    _build(job, draft, progress.task(f"quantize {model.name}", layers + outside))
    config = _config(job)
    write_companions(model, draft.model, config)
    write_text(draft.model / INDEX, index_text(draft.shards))
    fidelity = judge(
        model, draft.model, job.calibration.held,
        device=job.settings.device, task=progress.task(f"judge {model.name}", layers),
    )  # fmt: skip
    fidelity.demand(job.settings.limit)
    draft.publish()
    return fidelity


def _decide(checkpoint: Checkpoint, calibration: Path, settings: Settings) -> Job:
    if checkpoint.layout is not None:
        raise UnsupportedError(f"{checkpoint.folder} is quantised already.")
    longest = int(checkpoint.config.get("max_position_embeddings") or settings.seqlen)
    text = read_calibration(
        calibration,
        read_chat(checkpoint.folder),
        samples=settings.samples,
        seqlen=min(settings.seqlen, longest),
    )
    layout = choose(checkpoint.shapes())
    first = next(iter(checkpoint.shapes()))
    stored = checkpoint.source.infos[first].dtype
    stored = "BF16" if stored not in ("F16", "BF16") else stored  # as TurboMind would narrow it
    return Job(checkpoint, text, settings, layout, Format(layout.group, FLOATS[stored]), stored)


def _fingerprint(job: Job) -> str:
    """Everything that decides a byte of the result."""
    settings, checkpoint = job.settings, job.checkpoint
    digest = hashlib.sha256()
    parts = (ALGORITHM, settings.method, fingerprint(settings), settings.clip,
             torch.__version__, sorted(checkpoint.config.items(), key=str),
             tuple(job.calibration.used.shape))  # fmt: skip
    digest.update(repr(parts).encode())
    digest.update(job.calibration.used.numpy().tobytes())
    for path in weight_files(checkpoint.folder):
        digest.update(of_file(path).encode())
    return digest.hexdigest()


def _build(job: Job, draft: Draft, task: Task) -> None:
    """All files that are not there yet."""
    decoder = job.checkpoint.decoder(job.calibration.used.shape[1], job.settings.device)
    if draft.hidden is None:
        infos = job.checkpoint.outside()
        shard = copy_tensors(
            draft.model, job.file(0), job.checkpoint.source, infos=infos, dtype=job.stored
        )
        used = job.calibration.used
        states = (job.checkpoint.embedded(used[a:b]) for a, b in spans(tuple(used.shape)))
        draft.commit(shard, *draft.write_hidden(states))
    task.advance(sum(info.size for info in job.checkpoint.outside()))
    for index in range(job.checkpoint.geometry.layers):
        if index + 1 >= len(draft.shards):
            _layer(job, draft, decoder, index)
        task.advance(job.checkpoint.layer_bytes(index))


def _layer(job: Job, draft: Draft, decoder: Decoder, index: int) -> None:
    assert draft.hidden is not None  # `_build` has written those before the first layer
    layer = job.checkpoint.layer(index, job.settings.device)
    watching = Watching(job.layout.group, _search_windows(tuple(job.calibration.used.shape)))

    def outputs(hidden: Activations) -> Iterator[Tensor]:
        for first, states in hidden.batches():
            watching.begin(first)
            yield decoder.forward(layer, states.to(job.settings.device), watching)

    following = draft.write_hidden(outputs(draft.hidden))
    layer, codes = quantised_layer(
        decoder, layer, watching.at, target=job.target, clip=job.settings.clip
    )
    stored = stored_layer(
        job.checkpoint, index, layer, codes=codes, target=job.target, layout=job.layout
    )
    draft.commit(write_tensors(draft.model, job.file(index + 1), stored), *following)


def _search_windows(shape: tuple[int, ...]) -> set[int]:
    """Windows evenly from the whole text, `SEARCH_TOKENS` in all."""
    count = max(1, min(shape[0], SEARCH_TOKENS // shape[1]))
    return {i * shape[0] // count for i in range(count)}


def _config(job: Job) -> Mapping[str, Any]:
    config = dict(job.checkpoint.config)
    key = "dtype" if "dtype" in config else "torch_dtype"
    config[key] = TORCH_NAMES[job.stored]
    config["quantization_config"] = job.layout.config()
    return config
