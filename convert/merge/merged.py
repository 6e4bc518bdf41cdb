"""Base plus adapter, tensor by tensor in blocks of rows; memory does not grow with the model.

`Merged` is itself a source of tensors: it can be written out as a model folder (`merge`), and the
GGUF writer or a quantiser can read it without that folder ever existing. Sums are made in fp32
and rounded once to the format the base is stored in. Every value that passes is checked to be a
number.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import AdapterError, ConvertError
from convert.merge.adapter import Adapter, open_adapter
from convert.merge.blas import one_thread
from convert.merge.edits import Edit, Edits, LowRank, decide
from convert.weights.dtypes import FLOATS, Floats, Raw, add, decode, encode, is_finite
from convert.weights.model_folder import opened, read_json
from convert.weights.tensors import TensorInfo, TensorSource, blocks


class Merged:
    """A base with its adapter applied, read like any other source of tensors."""

    def __init__(self, base: TensorSource, edits: Edits, adapter: Adapter | None) -> None:
        self._base = base
        self._edits = edits.of
        self._adapter = adapter
        self._mine = _OfThread()
        self.infos: Mapping[str, TensorInfo] = _merged_infos(base, edits.added)

    def read(self, name: str, start: int, stop: int) -> Raw:
        info = self.infos[name]
        edit = self._edits.get(name)
        if edit is None:
            return self._checked(name, self._base.read(name, start, stop), info.dtype)
        raw = self._origin(edit, info, start, stop)
        if edit.low_rank is not None:
            factors = self._loaded(name, edit.low_rank)
            raw = factors.applied(raw, info, start, self._product(factors, start, stop))
        elif edit.shift is not None:
            raw = encode(self._shifted(raw, info, edit.shift, start, stop), info.dtype)
        return self._checked(name, raw, info.dtype)

    def _origin(self, edit: Edit, info: TensorInfo, start: int, stop: int) -> Raw:
        if not edit.replaced or self._adapter is None:
            return self._base.read(edit.origin, start, stop)
        source = self._adapter.tensors
        raw = source.read(edit.origin, start, stop)
        dtype = source.infos[edit.origin].dtype
        return raw if dtype == info.dtype else encode(decode(raw, dtype), info.dtype)

    def _shifted(
        self, raw: Raw, info: TensorInfo, shift: tuple[str, float], start: int, stop: int
    ) -> Floats:
        key, scale = shift
        added = _all(self._of_adapter(), key)[start:stop]
        added *= np.float32(scale)
        added += decode(raw, info.dtype)
        return added

    def _loaded(self, name: str, low_rank: LowRank) -> _Factors:
        """The factors of the tensor being read; a thread only ever keeps one tensor's."""
        factors = self._mine.factors
        if factors is None or factors.name != name:
            self._mine.factors = factors = _factors(self._of_adapter(), name, low_rank)
            factors.magnify(self, self._edits[name], self.infos[name])
        return factors

    def _product(self, factors: _Factors, start: int, stop: int) -> Floats:
        """Rows of left·right, in memory that the next product is written into again: asking the
        system for it each time costs as much as the sums."""
        shape = (stop - start, factors.right.shape[1])
        if self._mine.scratch.size < math.prod(shape):
            self._mine.scratch = np.empty(math.prod(shape), np.float32)
        out = self._mine.scratch[: math.prod(shape)].reshape(shape)
        return np.matmul(factors.left[start:stop], factors.right, out=out)

    def _of_adapter(self) -> TensorSource:
        assert self._adapter is not None  # edits are only ever decided from an adapter
        return self._adapter.tensors

    def _checked(self, name: str, raw: Raw, dtype: str) -> Raw:
        if not is_finite(raw, dtype):
            whose = "merged from base and adapter" if name in self._edits else "as the base has it"
            raise ConvertError(
                f"The tensor {name} ({whose}) holds values that are not finite numbers; "
                "the training has diverged or the file is damaged."
            )
        return raw


class _OfThread(threading.local):
    """What each thread that reads has for itself."""

    def __init__(self) -> None:
        self.factors: _Factors | None = None
        self.scratch: Floats = np.empty(0, np.float32)


@dataclass(slots=True)
class _Factors:
    """The two factors of one tensor as they lie in its file, left rows × right columns."""

    name: str
    left: Floats
    right: Floats
    scale: np.float32
    transposed: bool
    magnitude: Floats | None = None
    by_column: Floats | None = None

    def applied(self, raw: Raw, info: TensorInfo, start: int, product: Floats) -> Raw:
        """The rows `raw` from `start` on with their product applied; both are used up."""
        if self.magnitude is None:
            mine = np.require(raw, requirements=["C", "W"])
            add(mine, info.dtype, product, self.scale)
            return mine
        total = self._summed(raw, info, product)
        if self.by_column is not None:
            total *= self.by_column
        else:
            lengths = np.sqrt(np.einsum("ij,ij->i", total, total, dtype=np.float64))
            magnitude = self.magnitude[start : start + len(total)]
            total *= (magnitude / lengths.astype(np.float32))[:, None]
        return encode(total, info.dtype)

    def _summed(self, raw: Raw, info: TensorInfo, product: Floats) -> Floats:
        if self.scale != 1:
            product *= self.scale
        product += decode(raw, info.dtype)
        return product

    def magnify(self, merged: Merged, edit: Edit, info: TensorInfo) -> None:
        """DoRA on a transposed tensor: an output is a column, so its length takes a pass first."""
        if not self.transposed or self.magnitude is None:
            return
        squares = np.zeros(info.shape[1], np.float64)
        for start, stop in blocks(info):
            raw = merged._origin(edit, info, start, stop)
            total = self._summed(raw, info, merged._product(self, start, stop))
            squares += np.einsum("ij,ij->j", total, total, dtype=np.float64)
        lengths: Floats = np.sqrt(squares).astype(np.float32)
        self.by_column = np.divide(self.magnitude, lengths)


def _factors(source: TensorSource, name: str, low_rank: LowRank) -> _Factors:
    a, b = _all(source, low_rank.a), _all(source, low_rank.b)
    scale = np.float32(low_rank.scale)
    if np.frexp(scale)[0] == 0.5:  # a power of two may go into the small factor: exactly the same
        b *= scale
        scale = np.float32(1)
    left, right = (a.T, b.T) if low_rank.transposed else (b, a)
    factors = _Factors(name, left, right, scale, low_rank.transposed)
    if low_rank.magnitude is not None:
        factors.magnitude = _all(source, low_rank.magnitude).reshape(-1)
    return factors


def _all(source: TensorSource, name: str) -> Floats:
    """A small tensor, whole and in fp32."""
    info = source.infos[name]
    raw = source.read(name, 0, info.rows)
    if info.dtype not in FLOATS or not is_finite(raw, info.dtype):
        raise AdapterError(
            f"The adapter's tensor {name} ({info.dtype}) holds values that are not finite "
            "numbers; the training has diverged or the file is damaged."
        )
    return raw if info.dtype == "F32" else decode(raw, info.dtype)


def _merged_infos(base: TensorSource, added: Mapping[str, str]) -> dict[str, TensorInfo]:
    infos = dict(base.infos)
    for name, like in added.items():
        infos[name] = TensorInfo(name, infos[like].dtype, infos[like].shape)
    return infos


@contextmanager
def merged(
    base: Path, adapter: Path | None, *, name: str | None = None
) -> Iterator[tuple[Merged, dict[str, Any]]]:
    """Base and adapter opened together, and the merged model's configuration; `name` is what errors
    call the adapter.

    Raises:
        AdapterError: the adapter does not belong to this base or cannot be merged.
        DamagedError: a file is not what it claims to be.
    """
    with _base(base) as (tensors, config):
        if adapter is None:
            yield Merged(tensors, decide(tensors, config, None), None), config
            return
        with open_adapter(adapter, name) as opened_adapter, one_thread():
            edits = decide(tensors, config, opened_adapter)
            yield Merged(tensors, edits, opened_adapter), {**config, **edits.config}


@contextmanager
def _base(path: Path) -> Iterator[tuple[TensorSource, dict[str, Any]]]:
    if path.is_file():
        from convert.gguf.file import opened_gguf  # the gguf package: not for every merge

        with opened_gguf(path) as file:
            yield file, file.config
        return
    config = read_json(path / "config.json")
    with opened(path) as tensors:
        yield tensors, config
