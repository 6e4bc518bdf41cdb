"""A merge without a declaration: two folders into a third, complete or not at all."""

from __future__ import annotations

from pathlib import Path

from convert.companions import write_companions
from convert.errors import AdapterError
from convert.merge.adapter import CONFIG
from convert.merge.merged import merged
from convert.progress import Progress, Unwatched
from convert.publish import locked, require_new, staged
from convert.weights.shards import DEFAULT_SHARD, write_weights


def merge(
    base: Path,
    adapter: Path | None,
    out: Path,
    *,
    max_shard_size: int = DEFAULT_SHARD,
    progress: Progress | None = None,
) -> list[str]:
    """Merge two folders into a third; returns the names of its shards.

    Raises:
        ConvertError: they cannot be merged, or `out` already exists.
    """
    out = out.absolute()
    require_new(out)
    if adapter is not None and _is_checkpoint(adapter):
        raise AdapterError(
            f"{adapter} is a training checkpoint; make an adapter of it first: "
            f"hanlin adapter {adapter} OUT"
        )
    with merged(base, adapter) as (source, config), locked(out), staged(out) as folder:
        total = sum(info.size for info in source.infos.values())
        task = (progress or Unwatched()).task(out.name, total)
        write_companions(base, folder, config)
        return write_weights(source, folder, limit=max_shard_size, advance=task.advance)


def _is_checkpoint(adapter: Path) -> bool:
    if (adapter / CONFIG).is_file():
        return False
    from convert.checkpoint import is_checkpoint  # its readers: not for a merge that needs none

    return is_checkpoint(adapter)
