"""A base with its adapter beside it, computed as it was in training: nothing is merged.

The adapter is read here from its own files and its own configuration. Nothing of `merge.edits` or
`merge.merged` decides what it means, so a mistake there shows as a difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convert.errors import UnsupportedError
from convert.forward.checkpoint import Checkpoint, as_tensor, checkpoint_of, prefix
from convert.forward.decoder import Layer
from convert.forward.low_rank import LowRank
from convert.geometry import NAMES, Role, is_tied
from convert.merge.adapter import Adapter, Part, Piece, open_adapter
from convert.merge.merged import merged
from convert.relayout import layout_of
from convert.relayout.views import Rows
from convert.weights.dtypes import Raw
from convert.weights.tensors import TensorInfo, TensorSource, blocks

Parts = dict[Part, Piece]


class Replaced:
    """A base some of whose tensors the adapter brings whole, in its own number format."""

    def __init__(self, base: TensorSource, by: TensorSource, keys: Mapping[str, str]) -> None:
        self.keys = keys
        self._base, self._by = base, by
        brought = {name: by.infos[key] for name, key in keys.items()}
        self.infos: dict[str, TensorInfo] = {
            **base.infos,
            **{name: TensorInfo(name, info.dtype, info.shape) for name, info in brought.items()},
        }

    def read(self, name: str, start: int, stop: int) -> Raw:
        if name in self.keys:
            return self._by.read(self.keys[name], start, stop)
        return self._base.read(name, start, stop)


@dataclass(frozen=True, slots=True)
class Unmerged:
    """Base and adapter, open; computes what a `Checkpoint` of the merged model computes."""

    base: Checkpoint
    """In the layout that engines load, with the tensors in it that the adapter brings whole."""
    output: Checkpoint
    """The same for the output layer: one that is tied stays what the base has."""
    adapter: Adapter
    modules: Mapping[str, Parts]
    """What stands beside a matrix, by the name of the module the adapter was trained on."""
    origins: Mapping[str, Rows]
    """Where the tensors of a re-laid base come from; of any other they are where they were."""

    def layer(self, index: int, device: str) -> Layer:
        layer = self.base.layer(index, device)
        adapters: dict[Role, LowRank] = {}
        for name, role in self.base.linears.items():
            module = f"{prefix(index)}{name}"
            low_rank = self._beside(module)
            if low_rank is None:
                continue
            if low_rank.magnitude is not None:
                low_rank = low_rank.over(self.base.read(f"{module}.weight"))
            split = low_rank.apart(partial(self.base.apart, role))
            adapters |= {part: found.to(device) for part, found in split.items()}
        return replace(layer, adapters=adapters)

    def embedded(self, tokens: Tensor) -> Tensor:
        rows = self.base.embedded(tokens)
        low_rank = self._beside(self._embedding.removesuffix(".weight"))
        if low_rank is None:
            return rows
        if low_rank.magnitude is not None:
            low_rank = low_rank.over_rows(*self._columns(low_rank.a))
        # A token is a one in a vector of zeros, so A·x is one of A's columns.
        found = replace(low_rank, a=torch.eye(len(low_rank.a)))
        return found.beside(low_rank.a.T[tokens], rows)

    def logits(self, states: Tensor) -> Iterator[tuple[int, Tensor]]:
        low_rank = self._beside(NAMES[self.base.geometry.family].head)
        for start, rows in self.output.head():
            logits = states @ rows.T
            if low_rank is not None:
                here = low_rank.outputs(start, start + len(rows)).over(rows)
                logits = here.beside(states, logits)
            yield start, logits

    def final_norm(self, device: str) -> Tensor:
        return self.base.final_norm(device)

    @property
    def _embedding(self) -> str:
        return NAMES[self.base.geometry.family].embedding

    def _columns(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """‖w‖² and A·w where the embedding is a matrix from tokens: its outputs are columns."""
        info = self.base.source.infos[self._embedding]
        squares = torch.zeros(info.shape[1], dtype=torch.float64)
        projected = torch.zeros(info.shape[1], len(a), dtype=torch.float64)
        for start, stop in blocks(info):
            rows = as_tensor(self.base.source.read(info.name, start, stop), info.dtype).double()
            squares += rows.square().sum(0)
            projected += rows.T @ a[:, start:stop].T.double()
        return squares, projected

    def _beside(self, module: str) -> LowRank | None:
        """The adapter of a module under its name in the base."""
        rows = self.origins.get(f"{module}.weight", Rows(f"{module}.weight"))
        trained = rows.origin.removesuffix(".weight")
        parts = self.modules.get(trained)
        if parts is None:
            return None
        shift, magnitude = parts.get("bias"), parts.get("magnitude")
        found = LowRank(
            a=self._of_adapter(parts["a"]),
            b=self._of_adapter(parts["b"]),
            scale=self.adapter.config.scale_of(trained),
            shift=None if shift is None else self._of_adapter(shift),
            magnitude=None if magnitude is None else self._of_adapter(magnitude).flatten(),
        )
        end = None if rows.count is None else rows.begin + rows.count
        return found.outputs(rows.begin, end)

    def _of_adapter(self, piece: Piece) -> Tensor:
        info = self.adapter.tensors.infos[piece.key]
        raw = self.adapter.tensors.read(piece.key, 0, info.rows)
        return as_tensor(raw, info.dtype).reshape(info.shape)


@contextmanager
def open_unmerged(base: Path, adapter: Path) -> Iterator[Unmerged]:
    """Base and adapter, held open for as long as the `with` lasts.

    Raises:
        UnsupportedError: an architecture or a module that is not computed here.
    """
    with merged(base, None) as (tensors, config), open_adapter(adapter) as found:
        whole: dict[str, str] = {}
        modules: dict[str, Parts] = defaultdict(dict)
        for piece in found.pieces:
            if piece.part == "whole":
                whole[_known(piece.target, tensors.infos)] = piece.key
            else:
                module = _known(f"{piece.target}.weight", tensors.infos)
                modules[module.removesuffix(".weight")][piece.part] = piece
        unmerged = _laid_out(base, config, (tensors, Replaced(tensors, found.tensors, whole)),
                             found, dict(modules))  # fmt: skip
        _refuse_unknown(unmerged)
        yield unmerged


def _laid_out(
    folder: Path,
    config: Mapping[str, Any],
    sources: tuple[TensorSource, Replaced],
    adapter: Adapter,
    modules: Mapping[str, Parts],
) -> Unmerged:
    """As engines load it; `sources` are the base's own tensors, and those with the adapter's."""
    own: TensorSource
    replaced: TensorSource
    own, replaced = sources
    origins: Mapping[str, Rows] = {}
    layout = layout_of(config)
    if layout is not None:
        own, view = (layout.tensors(source, config) for source in sources)
        replaced, origins, config = view, view.rows, layout.config(config)
    base = checkpoint_of(folder, config, replaced)
    output = base
    if is_tied(config):
        head = f"{NAMES[base.geometry.family].head}.weight"
        brought = origins.get(head, Rows(head)).origin in sources[1].keys
        untied = {**config, "tie_word_embeddings": False}
        output = checkpoint_of(folder, untied if brought else config, replaced if brought else own)
    return Unmerged(base, output, adapter, modules, origins)


def _known(name: str, infos: Mapping[str, TensorInfo]) -> str:
    """The base's name for a tensor; some bases drop the first word."""
    short = name.partition(".")[2]
    return short if name not in infos and short in infos else name


def _refuse_unknown(unmerged: Unmerged) -> None:
    """An adapted module that the forward pass leaves out would make every figure wrong."""
    base, names = unmerged.base, NAMES[unmerged.base.geometry.family]
    known = {f"{prefix(i)}{name}" for i in range(base.geometry.layers) for name in base.linears}
    known |= {names.head, names.embedding.removesuffix(".weight")}
    weights = {f"{module}.weight" for module in known}
    trained = {unmerged.origins.get(name, Rows(name)).origin for name in weights}
    for module in unmerged.modules:
        if f"{module}.weight" not in trained:
            raise UnsupportedError(f"The adapter changes {module}, which is not computed here.")
