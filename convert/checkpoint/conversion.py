"""`hanlin adapter`: a checkpoint becomes a PEFT adapter folder, or a model folder.

Which of the two is read off its tensors: LoRA factors make an adapter, a whole set of weights a
model. Everything keeps the number format the checkpoint has it in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convert.checkpoint import full, keys, lora
from convert.checkpoint.newest import newest
from convert.checkpoint.state import Checkpoint, opened_checkpoint
from convert.companions import write_companions
from convert.errors import UnsupportedError
from convert.merge.adapter import CONFIG, open_adapter
from convert.merge.edits import decide
from convert.merge.merged import Merged
from convert.progress import Progress, Unwatched
from convert.publish import locked, require_new, staged
from convert.weights.model_folder import config_text, opened, read_json
from convert.weights.output import HashedFile, write_text
from convert.weights.safetensors_files import header_bytes
from convert.weights.shards import DEFAULT_SHARD, write_weights
from convert.weights.tensors import TensorSource, blocks

WEIGHTS = "adapter_model.safetensors"
_MODEL_CONFIG = "config.json"

Kind = Literal["adapter", "model"]


@dataclass(frozen=True, slots=True)
class Converted:
    """What a checkpoint turned out to be."""

    folder: Path
    checkpoint: Path
    """The one that was read: of a folder of several, the newest."""
    kind: Kind
    lacks: str | None = None
    """What the folder still needs before an engine can load it."""


def convert_adapter(
    checkpoint: Path, out: Path, progress: Progress | None = None, *, base: Path | None = None
) -> Converted:
    """Convert a checkpoint; `base` gives a full fine-tune its configuration and tokenizer.

    Raises:
        ConvertError: it cannot be read or converted, or `out` already exists.
    """
    out = out.absolute()
    require_new(out)
    return _convert(newest(checkpoint), out, base, progress or Unwatched())


def adapter_folder(checkpoint: Path, place: Path, progress: Progress) -> Path:
    """What a merge takes for a checkpoint: a PEFT folder at `place`, made if it is not there; a
    full fine-tune is the checkpoint itself, which `stand_in` reads."""
    if (place / CONFIG).exists():
        return place
    chosen = newest(checkpoint)
    if not (chosen / CONFIG).exists():
        with opened_checkpoint(chosen) as found:
            if kind_of(found) == "model":
                return chosen
    return _convert(chosen, place, None, progress).folder


def _convert(chosen: Path, out: Path, base: Path | None, progress: Progress) -> Converted:
    writing = _Writing(chosen, base, progress)
    with writing.opened() as write, locked(out), staged(out) as folder:
        kind, lacks = write(folder)
    return Converted(out, chosen, kind, lacks)


def kind_of(checkpoint: Checkpoint) -> Kind:
    """Whether tensors are an adapter or a model.

    Raises:
        UnsupportedError: neither.
    """
    names = keys.model_names(checkpoint.tensors.infos, str(checkpoint.path))
    if keys.has_lora(names):
        return "adapter"
    if keys.is_whole_model(names):
        return "model"
    raise UnsupportedError(
        f"{checkpoint.path} holds neither LoRA factors nor the weights of a whole model, only "
        f"{len(names)} tensors such as {next(iter(names))}."
    )


_Write = Callable[[Path], tuple[Kind, str | None]]


@dataclass(frozen=True, slots=True)
class _Writing:
    """One conversion: everything that can be refused is, before `out` is touched."""

    path: Path
    base: Path | None
    progress: Progress

    @contextmanager
    def opened(self) -> Iterator[_Write]:
        if self.path.is_dir() and (self.path / CONFIG).exists():
            with open_adapter(self.path) as adapter:
                config = read_json(self.path / CONFIG)
                yield lambda folder: self._adapter(folder, adapter.tensors, config)
            return
        with opened_checkpoint(self.path) as checkpoint:
            names = keys.model_names(checkpoint.tensors.infos, str(self.path))
            if kind_of(checkpoint) == "adapter":
                config = lora.adapter_config(checkpoint, keys.peft_names(names))
                yield lambda folder: self._adapter(folder, checkpoint.tensors, config)
            else:
                described = full.config(checkpoint, names, self.base)
                source = full.model(checkpoint, names)
                yield lambda folder: self._model(folder, source, described)

    def _adapter(
        self, folder: Path, tensors: TensorSource, config: Mapping[str, Any]
    ) -> tuple[Kind, None]:
        plain = keys.model_names(tensors.infos, str(self.path))
        source = full.Renamed(tensors, keys.peft_names(plain))
        infos = list(source.infos.values())
        task = self.progress.task(self.path.name, sum(info.size for info in infos))
        with HashedFile(folder / WEIGHTS, header_bytes(infos)) as file:
            for info in infos:
                for start, stop in blocks(info):
                    file.write(source.read(info.name, start, stop))
                    task.advance((stop - start) * info.row_bytes)
        write_text(folder / CONFIG, config_text(config))
        return "adapter", None

    def _model(
        self, folder: Path, source: TensorSource, config: Mapping[str, Any] | None
    ) -> tuple[Kind, str | None]:
        total = sum(info.size for info in source.infos.values())
        task = self.progress.task(self.path.name, total)
        lacks = None
        if config is not None and self.base is not None:
            write_companions(self.base, folder, config)
        else:
            lacks = "config.json and the tokenizer, which the base has; name it with --base"
        write_weights(source, folder, limit=DEFAULT_SHARD, advance=task.advance)
        return "model", lacks


@contextmanager
def stand_in(base: Path, checkpoint: Path) -> Iterator[tuple[Merged, dict[str, Any]]]:
    """A full fine-tune in the place of its base, in the base's number formats.

    Raises:
        ConvertError: it is not a fine-tune of this base.
    """
    with opened_checkpoint(checkpoint) as found, opened(base) as tensors:
        names = keys.model_names(found.tensors.infos, str(found.path))
        config = full.config(found, names, base)
        assert config is not None  # a base was named
        source = full.InFormatsOf(full.model(found, names), tensors.infos)
        said = read_json(base / _MODEL_CONFIG)
        for key in ("dtype", "torch_dtype"):
            if key in said:
                config[key] = said[key]
        yield Merged(source, decide(source, config, None), None), config
