"""A checkpoint while it is open: its tensors, and what the run that wrote it says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.checkpoint import zero
from convert.checkpoint.names import CHECKPOINT
from convert.checkpoint.newest import newest
from convert.checkpoint.settings import settings
from convert.errors import DamagedError, UnsupportedError
from convert.weights.dtypes import Raw
from convert.weights.tensors import TensorInfo, TensorSource
from convert.weights.torch_zip import TensorRef, TorchArchive


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is in a checkpoint, whatever it was written as."""

    path: Path
    tensors: TensorSource
    run: Mapping[str, Any] = field(default_factory=dict)
    """What the training configuration assigns; empty where there is none."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Tensors that are the same one under two names: the second name, and the first."""


class Torch:
    """Tensors of one archive."""

    def __init__(self, archive: TorchArchive, refs: Mapping[str, TensorRef]) -> None:
        self._archive = archive
        self._refs = refs
        self.infos = {name: TensorInfo(name, *ref.info) for name, ref in refs.items()}

    def read(self, name: str, start: int, stop: int) -> Raw:
        return self._archive.rows(self._refs[name], start, stop)


@contextmanager
def opened_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """The checkpoint at a path: a file, a DeepSpeed folder, or the newest in a folder of them.

    Raises:
        DamagedError: it is cut short, hostile, or its parts do not fit together.
        UnsupportedError: it is no checkpoint that can be read.
    """
    chosen = newest(path)
    with ExitStack() as stack:
        if chosen.is_dir():
            yield _folder(chosen, stack)
        else:
            yield _file(_open(chosen, stack))


def _open(path: Path, stack: ExitStack) -> TorchArchive:
    archive = TorchArchive(path, CHECKPOINT)
    stack.callback(archive.close)
    return archive


def _file(archive: TorchArchive) -> Checkpoint:
    content = archive.content
    if not isinstance(content, dict):
        raise DamagedError(archive.path, "holds no state dict.")
    state = content.get("state_dict", content)
    return _one_archive(archive, state, _run(archive.path, content))


def _one_archive(archive: TorchArchive, state: Any, run: Mapping[str, Any]) -> Checkpoint:
    refs = _tensors(archive.path, state)
    aliases = _shared(refs)
    own = {name: ref for name, ref in refs.items() if name not in aliases}
    return Checkpoint(archive.path, Torch(archive, own), run, aliases)


def _tensors(path: Path, state: Any) -> dict[str, TensorRef]:
    if not isinstance(state, dict):
        raise DamagedError(path, "holds no state dict.")
    found = {
        name: ref
        for name, ref in state.items()
        if isinstance(ref, TensorRef) and isinstance(name, str)
    }
    if not found:
        raise DamagedError(path, "holds no tensors.")
    return found


def _shared(refs: Mapping[str, TensorRef]) -> dict[str, str]:
    """Tied weights are written as one storage that two names point to."""
    first: dict[TensorRef, str] = {}
    return {name: first[ref] for name, ref in refs.items() if first.setdefault(ref, name) != name}


def _folder(path: Path, stack: ExitStack) -> Checkpoint:
    ranks = zero.ranks(path)
    states = [_open(file, stack) for file in ranks.states]
    run = _run(path, states[0].content)
    if not ranks.sharded:
        content = states[0].content
        module = content.get("module") if isinstance(content, dict) else None
        return _one_archive(states[0], module, run)
    shards = [_open(file, stack) for file in ranks.shards]
    source = zero.Sharded.join(path, states, shards)
    return Checkpoint(path, source, run, source.aliases)


def _run(path: Path, content: Any) -> dict[str, Any]:
    """The configuration of the run, which XTuner keeps as text in the checkpoint."""
    meta = content.get("meta") if isinstance(content, dict) else None
    text = meta.get("cfg") if isinstance(meta, dict) else None
    if not isinstance(text, str):
        return {}
    try:
        return settings(text)
    except ValueError as error:
        raise UnsupportedError(
            f"{path}: the configuration in it is not Python source ({error})."
        ) from error
