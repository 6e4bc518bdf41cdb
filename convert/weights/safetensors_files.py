"""Reads and writes safetensors without ever holding a file in memory, and believes no header.

The safetensors package maps files into memory or returns whole tensors; both grow with the model,
and a truncated file shows itself only as a crash in the middle. Here a file is checked first:
header, offsets and sizes must account for every byte.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from convert.errors import DamagedError
from convert.weights.dtypes import STORAGE, Raw
from convert.weights.tensors import TensorInfo

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_LONGEST_HEADER = 100_000_000  # what the format itself allows


class SafetensorsFile:
    """One file: its header checked, its tensors read by rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY)
        try:
            self.infos, self._offsets = _header(path, self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def read(self, name: str, start: int, stop: int) -> Raw:
        info = self.infos[name]
        out = np.empty((stop - start, *info.shape[1:]), STORAGE[info.dtype])
        read_into(self._fd, out, self._offsets[name] + start * info.row_bytes, self.path)
        return out

    def close(self) -> None:
        os.close(self._fd)


class SafetensorsFolder:
    """A model folder: one `model.safetensors`, or shards under an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[SafetensorsFile] = []
        self._of: dict[str, SafetensorsFile] = {}
        try:
            self._open_all()
            self.infos: Mapping[str, TensorInfo] = {
                name: file.infos[name] for name, file in self._of.items()
            }
        except BaseException:
            self.close()
            raise

    def _open_all(self) -> None:
        index = self.folder / INDEX
        wanted = read_index(index) if index.exists() else None
        names = sorted(set(wanted.values())) if wanted is not None else _loose(self.folder)
        for name in names:
            path = self.folder / name
            if not path.exists():
                raise DamagedError(index, f"names the shard {name}, which is not in the folder.")
            file = SafetensorsFile(path)
            self._files.append(file)
            for tensor in file.infos:
                if wanted is None or wanted.get(tensor) == name:
                    self._of[tensor] = file
        for tensor, name in (wanted or {}).items():
            if tensor not in self._of:
                raise DamagedError(index, f"says that {tensor} is in {name}, but it is not there.")

    def read(self, name: str, start: int, stop: int) -> Raw:
        return self._of[name].read(name, start, stop)

    def close(self) -> None:
        while self._files:
            self._files.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def read_into(fd: int, out: Raw, offset: int, path: Path) -> None:
    """Fill `out` from a place in a file, however often the system stops half way."""
    view = out.reshape(-1).view(np.uint8).data
    while view:
        got = os.preadv(fd, [view], offset)
        if got == 0:
            raise DamagedError(path, "ended while it was being read; it was changed or cut short.")
        view, offset = view[got:], offset + got


def read_index(path: Path) -> dict[str, str]:
    """Which tensor lies in which file."""
    try:
        found = json.loads(path.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(path, "is not an index of safetensors shards.") from error
    if not isinstance(found, dict) or not all(_plain(name) for name in found.values()):
        raise DamagedError(path, "names shards that are not plain file names.")
    return found


def _plain(name: Any) -> bool:
    """An index is data from elsewhere; it must not point outside its folder."""
    return isinstance(name, str) and name == Path(name).name and name not in ("", "..")


def _loose(folder: Path) -> list[str]:
    single = folder / SINGLE
    if single.exists():
        return [SINGLE]
    return sorted(path.name for path in folder.glob("*.safetensors"))


def _header(path: Path, fd: int) -> tuple[dict[str, TensorInfo], dict[str, int]]:
    total = os.fstat(fd).st_size
    first = os.pread(fd, 8, 0)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > min(_LONGEST_HEADER, total - 8):
        raise DamagedError(path, f"is not a safetensors file, or was cut short ({total} bytes).")
    try:
        header = json.loads(os.pread(fd, length, 8))
        header.pop("__metadata__", None)
        entries = {name: _entry(name, value) for name, value in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(path, "has a header that is not a safetensors header.") from error
    return _checked(path, entries, 8 + length, total)


def _entry(name: str, value: dict[str, Any]) -> tuple[TensorInfo, int, int]:
    shape = tuple(int(n) for n in value["shape"])
    start, stop = (int(n) for n in value["data_offsets"])
    if min(shape, default=0) < 0:
        raise ValueError(name)
    return TensorInfo(name, value["dtype"], shape), start, stop


def _checked(
    path: Path, entries: dict[str, tuple[TensorInfo, int, int]], begin: int, total: int
) -> tuple[dict[str, TensorInfo], dict[str, int]]:
    expected = 0
    infos, offsets = {}, {}
    for info, start, stop in sorted(entries.values(), key=lambda entry: entry[1:]):
        if info.dtype not in STORAGE:
            raise DamagedError(path, f"stores {info.name} as {info.dtype}, an unknown format.")
        size = math.prod(info.shape) * STORAGE[info.dtype].itemsize
        if start != expected or stop - start != size:
            raise DamagedError(
                path, f"lies about {info.name}: {info.dtype} {list(info.shape)} takes {size} bytes "
                f"from {expected}, its header says {start} to {stop}."
            )  # fmt: skip
        expected = stop
        infos[info.name], offsets[info.name] = info, begin + start
    if begin + expected != total:
        raise DamagedError(
            path, f"was cut short or added to: {total} bytes, its header says {begin + expected}."
        )
    return infos, offsets


def header_bytes(infos: list[TensorInfo]) -> bytes:
    """The header of a file that holds these tensors in this order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for info in infos:
        header[info.name] = {
            "dtype": info.dtype,
            "shape": list(info.shape),
            "data_offsets": [place, place + info.size],
        }
        place += info.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data begins on a multiple of 8
    return len(text).to_bytes(8, "little") + text
