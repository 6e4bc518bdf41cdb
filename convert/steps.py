"""The work itself: weights into a staged folder, and a merge without a declaration."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convert import digests, gguf, relayout
from convert.checkpoint import is_checkpoint, stand_in
from convert.errors import AdapterError, BuildError
from convert.merge import merged
from convert.model_folder import opened, weight_files
from convert.output import Written
from convert.plan import Plan
from convert.progress import Progress, Unwatched
from convert.publish import locked, staged
from convert.relayout import Layout
from convert.shards import DEFAULT_SHARD, write_companions, write_weights
from convert.tensors import TensorSource
from convert.workspace import finish, tensor_summary


def build(plan: Plan, fetched: tuple[Path, Path | None], folder: Path, progress: Progress) -> None:
    """Make the whole workspace in `folder`."""
    if plan.calibration is not None:
        _quantised(plan, fetched, folder, progress)
        return
    summary, written = _tuned(plan, fetched, folder, progress)
    finish(plan, folder, written, summary)


def _tuned(
    plan: Plan, fetched: tuple[Path, Path | None], folder: Path, progress: Progress
) -> tuple[dict[str, Any], dict[str, Written]]:
    """The tuned model's folder, its weights as they are or as one GGUF file."""
    base, adapter = fetched
    with _model(base, adapter) as (source, config, layout):
        summary = tensor_summary(source.infos)
        task = progress.task(plan.assistant.name, summary["bytes"])
        if layout is None:
            write_companions(base, folder, config)
        else:
            relayout.write_companions(layout, base, folder, config)
        if plan.engine != "llamacpp":
            return summary, write_weights(source, folder, limit=DEFAULT_SHARD, advance=task.advance)
        kind, name = plan.assistant.llamacpp.type, plan.settings["model"]
        file = gguf.plan(source, config, folder if layout else base, kind)
        written = gguf.write(
            file, source, folder / name, name=plan.assistant.name, advance=task.advance
        )
        return summary, {name: written}


def _quantised(
    plan: Plan, fetched: tuple[Path, Path | None], folder: Path, progress: Progress
) -> None:
    """The tuned model in 4 bits. The two folders in between stand beside the workspace, under
    names that stay, so that an interrupted run is taken up again."""
    from convert.quantize import quantize

    assert plan.calibration is not None
    assert plan.calibration.path is not None
    whole, packed = (plan.target.with_name(f"{plan.target.name}.{n}") for n in ("merged", "awq"))
    for leftover in (whole, packed):
        shutil.rmtree(leftover, ignore_errors=True)
    whole.mkdir(parents=True)
    _tuned(plan, fetched, whole, progress)
    done = quantize(whole, packed, calibration=plan.calibration.path, progress=progress)
    for path in packed.iterdir():
        path.rename(folder / path.name)
    shutil.rmtree(whole)
    packed.rmdir()
    written = {
        path.name: Written(digests.of_file(path), path.stat().st_size)
        for path in weight_files(folder)
        if path.suffix == ".safetensors"
    }
    with opened(folder) as source:
        summary = tensor_summary(source.infos)
    finish(plan, folder, written, summary, quantization=done.manifest())


@contextmanager
def _model(
    base: Path, adapter: Path | None
) -> Iterator[tuple[TensorSource, dict[str, Any], Layout | None]]:
    """The tuned model in a layout that engines load, and how it was changed to be that."""
    full = adapter is not None and is_checkpoint(adapter)
    opened = stand_in(base, adapter) if adapter and full else merged(base, adapter)
    with opened as (source, config):
        layout = relayout.layout_of(config)
        if layout is None:
            yield source, config, None
        else:
            yield layout.tensors(source, config), layout.config(config), layout


def merge(
    base: Path,
    adapter: Path | None,
    out: Path,
    *,
    max_shard_size: int = DEFAULT_SHARD,
    progress: Progress | None = None,
) -> dict[str, Written]:
    """Merge two folders into a third, complete or not at all.

    Raises:
        ConvertError: they cannot be merged, or `out` is there already.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BuildError(f"{out} is there already; name a folder that is not.")
    if adapter is not None and is_checkpoint(adapter):
        raise AdapterError(
            f"{adapter} is a training checkpoint; make an adapter of it first: "
            f"hanlin adapter {adapter} OUT"
        )
    with merged(base, adapter) as (source, config), locked(out), staged(out) as folder:
        total = sum(info.size for info in source.infos.values())
        task = (progress or Unwatched()).task(out.name, total)
        write_companions(base, folder, config)
        return write_weights(source, folder, limit=max_shard_size, advance=task.advance)
