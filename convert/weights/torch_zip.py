"""Reads tensors out of a torch archive (`.bin`, `.pth`) without running a word of its pickle.

A torch archive is a zip of raw storages beside one pickle that says which tensor lies where. The
unpickler below knows the handful of names that saying so takes; anything else in the pickle is
refused by name. Tensors are then read by rows from the zip, which torch stores uncompressed.
A training checkpoint takes more names (`checkpoint.names`), passed in by whoever opens one.
"""

from __future__ import annotations

import collections
import io
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Never

import numpy as np

from convert.errors import DamagedError
from convert.weights.dtypes import STORAGE, Raw
from convert.weights.safetensors_files import read_into
from convert.weights.tensors import TensorInfo

Names = Mapping[tuple[str, str], Any]
"""What a pickle may ask for, by module and name, and what it is given for it."""

_STORAGES = {
    "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "DoubleStorage": "F64", "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16",
    "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A storage the pickle points to."""

    dtype: str
    key: str
    count: int

    def __setstate__(self, state: Any) -> Never:
        raise pickle.UnpicklingError("it changes a storage after making it")


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor as the pickle describes it: a view into a storage."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        reach = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        lowest = min(self.stride, default=0)
        if math.prod(self.shape) and (
            self.offset < 0 or lowest < 0 or self.offset + reach >= self.storage.count
        ):
            raise pickle.UnpicklingError("a tensor reaches outside its storage")

    def __setstate__(self, state: Any) -> Never:
        # A dataclass would take it as it comes, past the check above.
        raise pickle.UnpicklingError("it changes a tensor after making it")

    @property
    def info(self) -> tuple[str, tuple[int, ...]]:
        return self.storage.dtype, self.shape

    @property
    def contiguous(self) -> bool:
        expected = 1
        for n, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if n != 1 and step != expected:
                return False
            expected *= n
        return True


def _tensor(
    _: pickle.Unpickler, storage: Any, offset: int, shape: Any, stride: Any, *__: Any
) -> Any:
    if not isinstance(storage, StorageRef):
        raise pickle.UnpicklingError("a tensor without a storage")
    return TensorRef(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


def _parameter(_: pickle.Unpickler, data: Any, *__: Any) -> Any:
    return data


TENSORS: Names = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}
"""What a state dict takes."""


class _Reader(pickle.Unpickler):
    def __init__(self, content: bytes, names: Names) -> None:
        super().__init__(io.BytesIO(content))
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        try:
            found = self._names[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is no part of a tensor"
            ) from None
        # A pickle may set attributes of what it was given: a bound method, unlike the function
        # itself, has none that could be set.
        return found.__get__(self) if isinstance(found, FunctionType) else found

    def persistent_load(self, pid: Any) -> StorageRef:
        match pid:
            case ("storage", str(dtype), str(key), _, int(count)) if dtype in STORAGE:
                return StorageRef(dtype, key, count)
        raise pickle.UnpicklingError("it points to something that is not a storage")


class TorchArchive:
    """An open archive: what its pickle says, and the tensors it points to."""

    def __init__(self, path: Path, names: Names = TENSORS) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                prefix, self.content = _unpickled(archive, path, names)
                self._places = _storages(archive, path, prefix)
        except (zipfile.BadZipFile, EOFError) as error:
            raise DamagedError(path, _no_archive(path)) from error
        self._fd = os.open(path, os.O_RDONLY)

    def rows(self, ref: TensorRef, start: int, stop: int) -> Raw:
        """Rows of a tensor; a scalar is one row."""
        dtype = STORAGE[ref.storage.dtype]
        if not ref.contiguous:
            return self._strided(ref)[start:stop]
        row = math.prod(ref.shape[1:])
        out = np.empty((stop - start, *ref.shape[1:]), dtype)
        self._fill(ref, out, ref.offset + start * row)
        return out

    def _strided(self, ref: TensorRef) -> Raw:
        """A transposed view; rare, so its storage is simply read as a whole."""
        flat = np.empty(ref.storage.count, STORAGE[ref.storage.dtype])
        self._fill(ref, flat, 0)
        step = flat.itemsize
        return np.lib.stride_tricks.as_strided(
            flat[ref.offset :], ref.shape, tuple(n * step for n in ref.stride), writeable=False
        )

    def _fill(self, ref: TensorRef, out: Raw, element: int) -> None:
        place, size = self._places.get(ref.storage.key, (0, -1))
        offset = element * out.itemsize
        if offset + out.nbytes > size:
            raise DamagedError(self.path, f"has no complete storage {ref.storage.key}.")
        read_into(self._fd, out, place + offset, self.path)

    def close(self) -> None:
        os.close(self._fd)


class TorchFile:
    """The tensors of a state dict saved by `torch.save`."""

    def __init__(self, path: Path) -> None:
        self._archive = TorchArchive(path)
        try:
            self._refs = _tensors(path, self._archive.content)
        except BaseException:
            self._archive.close()
            raise
        self.infos: Mapping[str, TensorInfo] = {
            name: TensorInfo(name, *ref.info) for name, ref in self._refs.items()
        }

    def read(self, name: str, start: int, stop: int) -> Raw:
        return self._archive.rows(self._refs[name], start, stop)

    def close(self) -> None:
        self._archive.close()


def _no_archive(path: Path) -> str:
    with path.open("rb") as file:
        begins = file.read(4)
    if begins == b"PK\x03\x04":
        return "was cut short: it begins as a torch archive, but its end is missing."
    return (
        "is not a torch archive (or one from before torch 1.6); save it again with a newer torch, "
        "best as safetensors."
    )


def _unpickled(archive: zipfile.ZipFile, path: Path, names: Names) -> tuple[str, Any]:
    pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
    if len(pickles) != 1:
        raise DamagedError(path, "is a zip, but not a torch archive.")
    if archive.getinfo(pickles[0]).compress_type != zipfile.ZIP_STORED:
        raise DamagedError(path, "is a compressed archive; torch writes none.")
    prefix = pickles[0].removesuffix("data.pkl")
    order = f"{prefix}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise DamagedError(path, "was written on a big-endian machine.")
    try:
        return prefix, _Reader(archive.read(pickles[0]), names).load()
    except pickle.UnpicklingError as error:
        raise DamagedError(path, f"is refused: {error}.") from error
    except (TypeError, ValueError, IndexError, AttributeError, KeyError, RecursionError) as error:
        raise DamagedError(
            path, f"is refused: its pickle is not a state dict ({error})."
        ) from error


def _storages(archive: zipfile.ZipFile, path: Path, prefix: str) -> dict[str, tuple[int, int]]:
    """Where each storage begins in the file, behind its own local zip header."""
    places = {}
    with path.open("rb") as file:
        for member in archive.infolist():
            if not member.filename.startswith(f"{prefix}data/"):
                continue
            if member.compress_type != zipfile.ZIP_STORED:
                raise DamagedError(path, "is a compressed archive; torch writes none.")
            file.seek(member.header_offset + 26)
            lengths = file.read(4)
            skip = (
                30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
            )
            key = member.filename.removeprefix(f"{prefix}data/")
            places[key] = (member.header_offset + skip, member.file_size)
    return places


def _tensors(path: Path, state: Any) -> dict[str, TensorRef]:
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise DamagedError(path, "holds no state dict.")
    found = {name: ref for name, ref in state.items() if isinstance(ref, TensorRef)}
    if not found:
        raise DamagedError(path, "holds no tensors.")
    return found
