"""From a fully fine-tuned checkpoint to a Hugging Face model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.checkpoint import keys
from convert.checkpoint.state import Checkpoint
from convert.errors import AdapterError
from convert.weights.dtypes import FLOATS, TORCH_NAMES, Raw, decode, encode
from convert.weights.model_folder import opened, read_json
from convert.weights.tensors import TensorInfo, TensorSource, shown


class Renamed:
    """Some tensors of a source under other names."""

    def __init__(self, source: TensorSource, names: Mapping[str, str]) -> None:
        self._source = source
        self._names = names
        self.infos = {
            name: TensorInfo(name, source.infos[origin].dtype, source.infos[origin].shape)
            for name, origin in names.items()
        }

    def read(self, name: str, start: int, stop: int) -> Raw:
        return self._source.read(self._names[name], start, stop)


class InFormatsOf:
    """A source in the number formats of another, tensor by tensor."""

    def __init__(self, source: TensorSource, like: Mapping[str, TensorInfo]) -> None:
        self._source = source
        self.infos = {
            name: TensorInfo(name, like[name].dtype if name in like else info.dtype, info.shape)
            for name, info in source.infos.items()
        }

    def read(self, name: str, start: int, stop: int) -> Raw:
        raw, stored = self._source.read(name, start, stop), self._source.infos[name].dtype
        wanted = self.infos[name].dtype
        return raw if wanted == stored else encode(decode(raw, stored), wanted)


def model(checkpoint: Checkpoint, names: Mapping[str, str]) -> Renamed:
    """The checkpoint's weights as Hugging Face names them."""
    return Renamed(checkpoint.tensors, names)


def config(
    checkpoint: Checkpoint, names: Mapping[str, str], base: Path | None
) -> dict[str, Any] | None:
    """The base's configuration, made true for these weights; None where no base is at hand.

    Raises:
        AdapterError: the weights are not those of this base.
    """
    if base is None:
        return None
    found = read_json(base / "config.json")
    weights = Renamed(checkpoint.tensors, names)
    _same_tensors(checkpoint, weights.infos, base)
    kinds = {info.dtype for info in weights.infos.values() if info.dtype in FLOATS}
    if len(kinds) == 1:
        found["dtype" if "dtype" in found else "torch_dtype"] = TORCH_NAMES[kinds.pop()]
    if found.get("tie_word_embeddings") and any(n.endswith(keys.OUTPUTS) for n in weights.infos):
        found["tie_word_embeddings"] = False  # trained apart, or it would be one storage
    if any(alias.endswith(keys.OUTPUTS) for alias in checkpoint.aliases):
        found["tie_word_embeddings"] = True
    return found


def _same_tensors(checkpoint: Checkpoint, infos: Mapping[str, TensorInfo], base: Path) -> None:
    with opened(base) as tensors:
        expected = dict(tensors.infos)
    for name, info in infos.items():
        if name not in expected and not name.endswith(keys.OUTPUTS):
            raise AdapterError(
                f"{checkpoint.path} belongs to another base: it has {name}, which {base} has not."
            )
        if name in expected and expected[name].shape != info.shape:
            raise AdapterError(
                f"{checkpoint.path} belongs to another base: its {name} is {shown(info.shape)}, "
                f"but {base} has {shown(expected[name].shape)}."
            )
    aliased = {alias for alias in keys.model_names(checkpoint.aliases, str(checkpoint.path))}
    missing = [n for n in expected if n not in infos and n not in aliased and not keys.buffer(n)]
    if missing:
        raise AdapterError(
            f"{checkpoint.path} is not a whole {base.name}: it lacks {missing[0]}"
            + (f" and {len(missing) - 1} more." if len(missing) > 1 else ".")
        )
