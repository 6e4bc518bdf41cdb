"""Puts together what DeepSpeed ZeRO took apart over the ranks of a training.

ZeRO-1 and 2 keep all weights in one file and split only the optimizer's copies, so that file is
enough. ZeRO-3 keeps no weights: each rank has a slice of every tensor, the slices of one rank laid
end to end in its flat fp32 groups. A tensor of n numbers on w ranks is cut into slices of
ceil(n / w); the last ones are padded. Nothing is joined in memory: a row is read from the slices
it lies in, and rounded to the format the model computed in, as DeepSpeed itself does at each step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from convert.errors import DamagedError, UnsupportedError
from convert.weights.dtypes import STORAGE, Raw, decode, encode
from convert.weights.tensors import TensorInfo
from convert.weights.torch_zip import TensorRef, TorchArchive

_RANK = re.compile(r"(bf16_)?zero_pp_rank_(?P<rank>\d+)_mp_rank_(?P<mp>\d+)_(?P<what>\w+)\.pt")
_WHOLE = "mp_rank_00_model_states.pt"


@dataclass(frozen=True, slots=True)
class Ranks:
    """The files of a folder, in the order of ranks."""

    states: list[Path]
    shards: list[Path]
    sharded: bool
    """Whether the weights themselves are split (ZeRO-3)."""


def ranks(folder: Path) -> Ranks:
    """Which files to read.

    Raises:
        DamagedError: one is missing.
        UnsupportedError: the model itself was split by tensor parallelism.
    """
    found: dict[str, dict[int, Path]] = {"model_states": {}, "optim_states": {}}
    for path in folder.glob("*_states.pt"):
        match = _RANK.fullmatch(path.name)
        if not _zeroth(path, match):
            raise UnsupportedError(
                f"{folder} was trained with tensor parallelism ({path.name}), which XTuner does "
                "not use for fine-tuning and which is not put together here."
            )
        if match and match["what"] in found:
            found[match["what"]][int(match["rank"])] = path
    whole = folder / _WHOLE
    if whole.exists():
        return Ranks([whole], [], sharded=False)
    size = 1 + max((rank for files in found.values() for rank in files), default=0)
    states = _complete(folder, found["model_states"], "model_states", size)
    return Ranks(states, _complete(folder, found["optim_states"], "optim_states", size), True)


def _zeroth(path: Path, match: re.Match[str] | None) -> bool:
    part = match["mp"] if match else path.name.removeprefix("mp_rank_").partition("_")[0]
    return not part.isdecimal() or int(part) == 0


def _complete(folder: Path, files: Mapping[int, Path], what: str, size: int) -> list[Path]:
    for rank in range(size):
        if rank not in files:
            name = f"zero_pp_rank_{rank}_mp_rank_00_{what}.pt"
            raise DamagedError(folder, f"{name} is missing; ZeRO-3 weights take every rank's file.")
    return [files[rank] for rank in range(size)]


class Flat:
    """One rank's flat groups, laid end to end as one row of numbers."""

    def __init__(self, archive: TorchArchive, groups: list[TensorRef]) -> None:
        self.archive = archive
        self._groups = groups
        self.count = sum(math.prod(group.shape) for group in groups)

    def pieces(self, begin: int, end: int) -> Iterator[Raw]:
        """Numbers from `begin` to `end`, fp32."""
        place = 0
        for group in self._groups:
            size = math.prod(group.shape)
            start, stop = max(begin - place, 0), min(end - place, size)
            if start < stop:
                yield decode(self.archive.rows(group, start, stop), group.storage.dtype)
            place += size


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies: the same place and length on every rank."""

    slices: tuple[Flat, ...]
    begin: int
    length: int


class Sharded:
    """The tensors of a ZeRO-3 folder."""

    def __init__(self, infos: Mapping[str, TensorInfo], places: Mapping[str, _Place]) -> None:
        self.infos = infos
        self._places = places
        self.aliases: dict[str, str] = {}

    @classmethod
    def join(cls, folder: Path, states: list[TorchArchive], shards: list[TorchArchive]) -> Self:
        """Find every tensor's slices.

        Raises:
            DamagedError: the ranks do not fit together.
        """
        _together(folder, states)
        first = states[0].content
        shapes = _shapes(states[0])
        formats = _formats(first)
        flats = tuple(_flat(shard) for shard in shards)
        _sized(folder, shapes, flats, shards)
        infos, places, begin = {}, {}, 0
        for name, shape in shapes.items():
            length = -(-math.prod(shape) // len(flats))
            infos[name] = TensorInfo(name, formats.get(name, "F32"), shape)
            places[name] = _Place(flats, begin, length)
            begin += length
        source = cls(infos, places)
        source._frozen(folder, states, formats)
        source.aliases = {k: v for k, v in _mapping(first, "shared_params").items() if v in infos}
        return source

    def _frozen(self, folder: Path, states: list[TorchArchive], formats: Mapping[str, str]) -> None:
        """Weights that were not trained are cut in the same way, one piece of its own each."""
        infos, places = dict(self.infos), dict(self._places)
        for name, shape in _mapping(states[0].content, "frozen_param_shapes").items():
            parts = [_mapping(s.content, "frozen_param_fragments").get(name) for s in states]
            flats = tuple(
                Flat(state, [part])
                for state, part in zip(states, parts, strict=True)
                if isinstance(part, TensorRef)
            )
            if len(flats) != len(states):
                raise DamagedError(folder, f"not every rank has its part of {name}.")
            infos[name] = TensorInfo(name, formats.get(name, "F32"), tuple(shape))
            length = -(-math.prod(shape) // len(states))
            if any(flat.count != length for flat in flats):
                raise DamagedError(folder, f"the ranks' parts of {name} do not make {shape}.")
            places[name] = _Place(flats, 0, length)
        self.infos, self._places = infos, places

    def read(self, name: str, start: int, stop: int) -> Raw:
        info, place = self.infos[name], self._places[name]
        row = math.prod(info.shape[1:])
        out = np.empty((stop - start) * row, STORAGE[info.dtype])
        filled, end = 0, stop * row
        for piece in _run(place, start * row, end):
            out[filled : filled + piece.size] = encode(piece, info.dtype)
            filled += piece.size
        return out.reshape(stop - start, *info.shape[1:])


def _run(place: _Place, begin: int, end: int) -> Iterator[Raw]:
    """Numbers `begin` to `end` of a tensor, from however many slices they lie in."""
    while begin < end:
        rank, offset = divmod(begin, place.length)
        length = min(end - begin, place.length - offset)
        start = place.begin + offset
        yield from place.slices[rank].pieces(start, start + length)
        begin += length


def _together(folder: Path, states: list[TorchArchive]) -> None:
    """All files must be of one step of one training."""
    first = _facts(states[0])
    if isinstance(size := first[0], int) and size != len(states):
        raise DamagedError(
            folder, f"was written by {size} ranks, but {len(states)} are here; the rank files do "
            "not fit together."
        )  # fmt: skip
    for state in states[1:]:
        if _facts(state) != first:
            raise DamagedError(
                folder, f"{state.path.name} is of another training or step than "
                f"{states[0].path.name}; the rank files do not fit together."
            )  # fmt: skip


def _facts(state: TorchArchive) -> tuple[Any, Any, dict[str, tuple[int, ...]]]:
    content = state.content if isinstance(state.content, dict) else {}
    return content.get("dp_world_size"), content.get("global_steps"), _shapes(state)


def _shapes(state: TorchArchive) -> dict[str, tuple[int, ...]]:
    groups = state.content.get("param_shapes") if isinstance(state.content, dict) else None
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise DamagedError(state.path, "is not the state of a DeepSpeed rank (no param_shapes).")
    return {name: tuple(shape) for group in groups for name, shape in group.items()}


def _formats(content: Mapping[str, Any]) -> dict[str, str]:
    """What the model computed in: its placeholders are empty, but of the right format."""
    module = _mapping(content, "module")
    return {n: ref.storage.dtype for n, ref in module.items() if isinstance(ref, TensorRef)}


def _mapping(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = content.get(key)
    return found if isinstance(found, dict) else {}


def _flat(shard: TorchArchive) -> Flat:
    content = shard.content if isinstance(shard.content, dict) else {}
    groups = _mapping(content, "optimizer_state_dict").get("fp32_flat_groups")
    if not isinstance(groups, list) or not all(isinstance(g, TensorRef) for g in groups):
        raise DamagedError(shard.path, "is not the shard of a ZeRO-3 rank (no fp32_flat_groups).")
    return Flat(shard, groups)


def _sized(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    flats: tuple[Flat, ...],
    shards: list[TorchArchive],
) -> None:
    """Every rank must hold exactly its slices."""
    expected = sum(-(-math.prod(shape) // len(flats)) for shape in shapes.values())
    for flat, shard in zip(flats, shards, strict=True):
        if flat.count != expected:
            raise DamagedError(
                folder, f"{shard.path.name} holds {flat.count} numbers, but its share of the "
                f"tensors is {expected}; the rank files do not fit together."
            )  # fmt: skip
