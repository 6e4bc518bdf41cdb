"""The hidden states between two layers, on disk: memory does not grow with the calibration text.

Plain reads and writes rather than a memory map, whose pages would count as the process's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convert.forward.batches import spans
from convert.weights.output import HashedFile, Written
from convert.weights.safetensors_files import read_into


@dataclass(frozen=True, slots=True)
class Activations:
    """fp32 hidden states of shape (windows, positions, hidden), in one file."""

    path: Path
    shape: tuple[int, int, int]

    def write(self, batches: Iterable[Tensor]) -> Written:
        """All windows, front to back."""
        with HashedFile(self.path) as file:
            for batch in batches:
                file.write(batch.cpu().numpy())
        assert file.written is not None
        return file.written

    def read(self, start: int, stop: int) -> Tensor:
        """Windows `start` to `stop`."""
        values = np.empty((stop - start, *self.shape[1:]), np.float32)
        window = math.prod(self.shape[1:]) * values.itemsize
        with self.path.open("rb", buffering=0) as file:
            read_into(file.fileno(), values, start * window, self.path)
        return torch.from_numpy(values)

    def batches(self) -> Iterator[tuple[int, Tensor]]:
        """All windows, some at a time, each time with the number of the first."""
        for start, stop in spans(self.shape):
            yield start, self.read(start, stop)
