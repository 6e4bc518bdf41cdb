"""One safetensors file being written: its tensors in any order, by several threads at once.

What is written is on its way to the disk while the rest is being computed, so there is little to
wait for when the folder has to be there as a whole.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np

from convert.errors import writing
from convert.weights.dtypes import Raw
from convert.weights.safetensors_files import header_bytes
from convert.weights.tensors import TensorInfo

_PIECE = 1 << 20
"""Bytes given to the system at once; see `output`."""

_AHEAD = 64 << 20
"""Bytes after which the disk is asked to take what is there."""


class ShardFile:
    """A new file for these tensors; used in `with`."""

    def __init__(self, path: Path, infos: list[TensorInfo]) -> None:
        self.path = path
        head = header_bytes(infos)
        self._places: dict[str, int] = {}
        place = len(head)
        for info in infos:
            self._places[info.name] = place
            place += info.size
        self._head = np.frombuffer(head, np.uint8)
        self._lock = Lock()
        self._unsent = 0
        self._sending: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "to-disk")
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        except OSError as error:
            raise writing(path, error) from error

    def write(self, info: TensorInfo, start: int, raw: Raw) -> None:
        """The rows of a tensor from `start` on; from any thread."""
        self._put(raw, self._places[info.name] + start * info.row_bytes)

    def _put(self, raw: Raw, place: int) -> None:
        view = np.ascontiguousarray(raw).reshape(-1).view(np.uint8).data
        size = len(view)
        try:
            while view:
                written = os.pwrite(self._fd, view[:_PIECE], place)
                view, place = view[written:], place + written
            self._send(size)
        except OSError as error:
            raise writing(self.path, error) from error

    def _send(self, size: int) -> None:
        with self._lock:
            self._unsent += size
            if self._unsent >= _AHEAD and (self._sending is None or self._sending.done()):
                self._sent()
                self._unsent = 0
                self._sending = self._thread.submit(os.fsync, self._fd)

    def _sent(self) -> None:
        """Hear what the disk said: it tells of an error once, and nobody who asks later."""
        if self._sending is not None:
            self._sending.result()

    def __enter__(self) -> Self:
        self._put(self._head, 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._sent()
        except OSError as refused:
            raise writing(self.path, refused) from refused
        finally:
            self._thread.shutdown()
            os.close(self._fd)
