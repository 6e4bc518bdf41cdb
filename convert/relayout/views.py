"""Tensors under other names, whole or some rows of them: a source over a source, nothing copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from convert.weights.dtypes import Raw
from convert.weights.tensors import TensorInfo, TensorSource


@dataclass(frozen=True, slots=True)
class Rows:
    """Where a tensor's rows come from."""

    origin: str
    begin: int = 0
    count: int | None = None
    """None: all of them."""


class View:
    """Another layout of the same weights."""

    def __init__(self, source: TensorSource, rows: Mapping[str, Rows]) -> None:
        self._source = source
        self.rows = rows
        self.infos = {name: _info(source, name, taken) for name, taken in rows.items()}

    def read(self, name: str, start: int, stop: int) -> Raw:
        taken = self.rows[name]
        return self._source.read(taken.origin, taken.begin + start, taken.begin + stop)


def _info(source: TensorSource, name: str, taken: Rows) -> TensorInfo:
    info = source.infos[taken.origin]
    if taken.count is None:
        return TensorInfo(name, info.dtype, info.shape)
    return TensorInfo(name, info.dtype, (taken.count, *info.shape[1:]))
