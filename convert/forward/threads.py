"""How many threads the arithmetic of a model is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_BYTES_PER_THREAD = 32 << 20
"""Of a layer. Threads of a small layer wait for each other longer than they compute, and where the
machine has other work to do, several times as long (measured)."""


@contextmanager
def threads(layer_bytes: int, most: int | None = None) -> Iterator[None]:
    """Torch with as many threads as a layer of this size is worth, and afterwards as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(most or before, layer_bytes // _BYTES_PER_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
