"""Reads tensors out of a torch archive (`.bin`, `.pth`) without running a word of its pickle.

A torch archive is a zip of raw storages beside one pickle that says which tensor lies where. The
unpickler below knows the handful of names that saying so takes; anything else in the pickle is
refused by name. Tensors are then read by rows from the zip, which torch stores uncompressed.
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
from typing import Any

import numpy as np

from convert.dtypes import STORAGE, Raw
from convert.errors import DamagedError
from convert.safetensors_files import read_into
from convert.tensors import TensorInfo

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

    @property
    def contiguous(self) -> bool:
        expected = 1
        for n, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if n != 1 and step != expected:
                return False
            expected *= n
        return True


def _tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> TensorRef:
    if not isinstance(storage, StorageRef):
        raise pickle.UnpicklingError("a tensor without a storage")
    return TensorRef(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


def _parameter(data: Any, *_: Any) -> Any:
    return data


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is no part of a tensor"
            ) from None

    def persistent_load(self, pid: Any) -> StorageRef:
        match pid:
            case ("storage", str(dtype), str(key), _, int(count)) if dtype in STORAGE:
                return StorageRef(dtype, key, count)
        raise pickle.UnpicklingError("it points to something that is not a storage")


class TorchFile:
    """The tensors of a state dict saved by `torch.save`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._prefix, state = _state(archive, path)
                self._places = _storages(archive, path, self._prefix)
        except (zipfile.BadZipFile, EOFError) as error:
            raise DamagedError(
                path, "is not a torch archive (or one from before torch 1.6); save it again "
                "with a newer torch, best as safetensors."
            ) from error  # fmt: skip
        self._refs = _tensors(path, state)
        self._fd = os.open(path, os.O_RDONLY)

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        return {
            name: TensorInfo(name, ref.storage.dtype, ref.shape) for name, ref in self._refs.items()
        }

    def read(self, name: str, start: int, stop: int) -> Raw:
        ref = self._refs[name]
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
            raise DamagedError(self.path, f"has no whole storage {ref.storage.key}.")
        read_into(self._fd, out, place + offset, self.path)

    def close(self) -> None:
        os.close(self._fd)


def _state(archive: zipfile.ZipFile, path: Path) -> tuple[str, Any]:
    pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
    if len(pickles) != 1:
        raise DamagedError(path, "is a zip, but not a torch archive.")
    prefix = pickles[0].removesuffix("data.pkl")
    order = f"{prefix}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise DamagedError(path, "was written on a big-endian machine.")
    try:
        return prefix, _Reader(io.BytesIO(archive.read(pickles[0]))).load()
    except pickle.UnpicklingError as error:
        raise DamagedError(path, f"is refused: {error}.") from error
    except (TypeError, ValueError, IndexError, AttributeError, KeyError) as error:
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
