"""The work itself: weights into a staged folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert import digests, relayout
from convert.assemble import finish, tensor_summary
from convert.checkpoint import is_checkpoint, stand_in
from convert.companions import write_companions
from convert.fidelity import MergeFidelity, Unmeasured, merge_fidelity
from convert.gguf import model as gguf
from convert.merge.merged import merged
from convert.plan import Plan
from convert.progress import Progress
from convert.quantize.settings import Settings, draft_of
from convert.relayout import Layout
from convert.verify import demand
from convert.weights.model_folder import opened, weight_files
from convert.weights.output import Written
from convert.weights.shards import DEFAULT_SHARD, write_weights
from convert.weights.tensors import TensorSource


@dataclass(frozen=True, slots=True)
class Job:
    """One workspace to make."""

    plan: Plan
    base: Path
    adapter: Path | None
    progress: Progress
    quantising: Settings
    """How 4-bit weights are made; without a limit, any result is taken, and any merge too."""

    @property
    def accept_fidelity(self) -> bool:
        return self.quantising.limit is None


@dataclass(frozen=True, slots=True)
class _Tuned:
    """What is known of the tuned model once its folder is written."""

    summary: dict[str, Any]
    written: dict[str, Written]
    """The GGUF file, hashed as it is written; shards are written by several threads, and hashed by
    whoever needs to know."""
    fidelity: dict[str, Any]


def build(job: Job, folder: Path) -> None:
    """Make the whole workspace in `folder`.

    Raises:
        FidelityError: the result is further from what it was made of than is allowed.
    """
    whole, packed = _between(job.plan)
    if job.plan.calibration is not None:
        _quantised(job, folder, whole, packed)
        return
    for leftover in (whole, packed, draft_of(packed)):  # of a quantisation given up half way
        shutil.rmtree(leftover, ignore_errors=True)
    tuned = _tuned(job, folder)
    finish(job.plan, folder, tuned.written or _shards(folder), tuned.summary, tuned.fidelity)


def _tuned(job: Job, folder: Path) -> _Tuned:
    """The tuned model's folder, its weights as they are or as one GGUF file."""
    plan, base, progress = job.plan, job.base, job.progress
    called = plan.adapter.reference if plan.adapter else None
    with _model(base, job.adapter, called) as (source, config, layout):
        summary = tensor_summary(source.infos)
        task = progress.task(plan.assistant.name, summary["bytes"])
        if layout is None:
            write_companions(base, folder, config)
        else:
            relayout.write_companions(layout, base, folder, config)
        if plan.engine != "llamacpp":
            write_weights(source, folder, limit=DEFAULT_SHARD, advance=task.advance)
            with opened(folder) as made:
                return _Tuned(summary, {}, _fidelity(job, folder, made))
        fidelity = _fidelity(job, folder, source)
        kind, name = plan.assistant.llamacpp.type, plan.settings["model"]
        file = gguf.plan(source, config, folder if layout else base, kind)
        written = gguf.write(
            file, source, folder / name, name=plan.assistant.name, advance=task.advance
        )
        return _Tuned({**summary, "count": file.count}, {name: written}, fidelity)


def _fidelity(job: Job, folder: Path, made: TensorSource) -> dict[str, Any]:
    """How close merged weights are to base and adapter, for the manifest.

    Raises:
        FidelityError: not close enough, and nobody accepted that.
    """
    found: MergeFidelity | Unmeasured
    if job.adapter is None:
        found = Unmeasured("there is no adapter: the base's weights are taken as they are")
    elif is_checkpoint(job.adapter):
        found = Unmeasured("a full fine-tune: its weights are taken as they are")
    else:
        found = merge_fidelity(
            job.base, job.adapter, (folder, made), job.plan.assistant,
            dialogues=job.plan.dialogues, progress=job.progress,
        )  # fmt: skip
    if isinstance(found, MergeFidelity) and not job.accept_fidelity:
        found.demand()
    return {"merge": found.manifest()}


def _quantised(job: Job, folder: Path, whole: Path, packed: Path) -> None:
    """The tuned model in 4 bits, by way of two folders."""
    from convert.quantize import quantize

    plan = job.plan
    assert plan.calibration is not None
    assert plan.calibration.path is not None
    for leftover in (whole, packed):
        shutil.rmtree(leftover, ignore_errors=True)
    whole.mkdir(parents=True)
    try:
        tuned = _tuned(job, whole)
        demand(whole, packing=True)
        done = quantize(
            whole, packed, calibration=plan.calibration.path, settings=job.quantising,
            progress=job.progress,
        )  # fmt: skip
    finally:  # as large as the model, and merged anew where a quantisation is taken up again
        shutil.rmtree(whole, ignore_errors=True)
    for path in packed.iterdir():
        path.rename(folder / path.name)
    packed.rmdir()
    with opened(folder) as source:
        summary = tensor_summary(source.infos)
    quantization = done.manifest()
    finish(plan, folder, _shards(folder), summary, tuned.fidelity, quantization=quantization)


def _between(plan: Plan) -> tuple[Path, Path]:
    """The merged folder and the quantised one, on the way to a 4-bit workspace. They stand beside
    it, under names that stay, so that an interrupted run is taken up again."""
    beside, name = plan.target.with_name, plan.target.name
    return beside(f"{name}.merged"), beside(f"{name}.awq")


def _shards(folder: Path) -> dict[str, Written]:
    return {
        path.name: Written(digests.of_file(path), path.stat().st_size)
        for path in weight_files(folder)
        if path.suffix == ".safetensors"
    }


@contextmanager
def _model(
    base: Path, adapter: Path | None, called: str | None
) -> Iterator[tuple[TensorSource, dict[str, Any], Layout | None]]:
    """The tuned model in a layout that engines load, and how it was changed to be that; `called` is
    what the adapter is in the declaration."""
    full = adapter is not None and is_checkpoint(adapter)
    opened = stand_in(base, adapter) if adapter and full else merged(base, adapter, name=called)
    with opened as (source, config):
        layout = relayout.layout_of(config)
        if layout is None:
            yield source, config, None
        else:
            yield layout.tensors(source, config), layout.config(config), layout
