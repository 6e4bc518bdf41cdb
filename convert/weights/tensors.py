"""What every source of weights is to the rest of the package: named tensors, read by rows.

Merging, writing GGUF and (later) quantising all take a `TensorSource`, so a base in safetensors,
a torch archive, a GGUF file and a base with its adapter applied look the same to them, and none
is ever in memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from convert.weights.dtypes import STORAGE, Raw

BLOCK_BYTES = 4 << 20
"""How much of a tensor is worked on at a time; a few of these are all the memory a merge needs."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor before it is read."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """The length of the first axis; a scalar is one row."""
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * STORAGE[self.dtype].itemsize

    @property
    def size(self) -> int:
        """In bytes."""
        return self.rows * self.row_bytes


class TensorSource(Protocol):
    """Weights of one model."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """All tensors, in the order they are best read."""

    def read(self, name: str, start: int, stop: int) -> Raw:
        """Rows `start` to `stop` of a tensor as they are stored, shape (stop - start, …); the array
        is the caller's to change. Several threads may read at once."""


def blocks(info: TensorInfo, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """The tensor in pieces of about `BLOCK_BYTES`, each of whole groups of `multiple` rows."""
    groups = max(1, BLOCK_BYTES // max(1, info.row_bytes * multiple))
    step = groups * multiple
    for start in range(0, info.rows, step):
        yield start, min(start + step, info.rows)


def shown(shape: tuple[int, ...]) -> str:
    """A shape as people write it."""
    return "×".join(map(str, shape)) or "scalar"
