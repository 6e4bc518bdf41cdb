"""The work itself: weights into a staged folder, and a merge without a declaration."""

from __future__ import annotations

from pathlib import Path

from convert import gguf
from convert.errors import BuildError
from convert.merge import merged
from convert.output import Written
from convert.plan import Plan
from convert.progress import Progress, Unwatched
from convert.publish import locked, staged
from convert.shards import DEFAULT_SHARD, write_companions, write_weights
from convert.workspace import finish, tensor_summary


def build(plan: Plan, fetched: tuple[Path, Path | None], folder: Path, progress: Progress) -> None:
    """Make the whole workspace in `folder`."""
    base, adapter = fetched
    with merged(base, adapter) as (source, config):
        summary = tensor_summary(source.infos)
        task = progress.task(plan.assistant.name, summary["bytes"])
        written: dict[str, Written]
        if plan.engine == "llamacpp":
            file = gguf.plan(source, config, base, plan.assistant.llamacpp.type)
            write_companions(base, folder, config)
            name = plan.settings["model"]
            written = {
                name: gguf.write(
                    file, source, folder / name, name=plan.assistant.name, advance=task.advance
                )
            }
        else:
            write_companions(base, folder, config)
            written = write_weights(source, folder, limit=DEFAULT_SHARD, advance=task.advance)
    finish(plan, folder, written, summary)


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
    with merged(base, adapter) as (source, config), locked(out), staged(out) as folder:
        total = sum(info.size for info in source.infos.values())
        task = (progress or Unwatched()).task(out.name, total)
        write_companions(base, folder, config)
        return write_weights(source, folder, limit=max_shard_size, advance=task.advance)
