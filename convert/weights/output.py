"""A file being written once, from front to end, with its SHA-256 known when it is closed.

Hashing and writing happen on a thread of their own, so they cost no time while the next rows are
being computed; both release the interpreter lock.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from convert.errors import writing
from convert.weights.dtypes import Raw

_AHEAD = 2
"""Blocks that may wait to be written; more would only be memory."""

_PIECE = 1 << 20
"""Bytes given to the system at once. Hashed, they are still in the cache when they are written;
and Linux takes ten times as long for pages it is given by four megabytes (measured on ext4)."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a file turned out to be."""

    sha256: str
    size: int


class HashedFile:
    """A new file; used in `with`, and `written` once that has ended well."""

    def __init__(self, path: Path, head: bytes = b"") -> None:
        self.path = path
        self.written: Written | None = None
        self._hash = hashlib.sha256()
        self._size = 0
        self._waiting: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, "write")
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise writing(path, error) from error
        if head:
            self.write(np.frombuffer(head, np.uint8))

    def write(self, raw: Raw) -> None:
        """Take these bytes; the array must not be changed afterwards."""
        while len(self._waiting) >= _AHEAD:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._append, raw))

    def _append(self, raw: Raw) -> None:
        view = np.ascontiguousarray(raw).reshape(-1).view(np.uint8).data
        self._size += len(view)
        try:
            for start in range(0, len(view), _PIECE):
                piece = view[start : start + _PIECE]
                self._hash.update(piece)
                while piece:
                    piece = piece[self._file.write(piece) :]
        except OSError as error:
            raise writing(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            while kind is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._file.close()
        if kind is None:
            self.written = Written(self._hash.hexdigest(), self._size)


def write_text(path: Path, text: str) -> None:
    """A small file, its bytes on the disk before this returns."""
    try:
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise writing(path, error) from error
