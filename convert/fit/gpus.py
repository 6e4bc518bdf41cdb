"""The GPUs assistants are to be placed on, as people write their sizes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from assistants.errors import HanlinError

_UNITS = {
    "": 1 << 30, "g": 1 << 30, "gib": 1 << 30, "gb": 10**9,
    "m": 1 << 20, "mib": 1 << 20, "mb": 10**6, "t": 1 << 40, "tib": 1 << 40,
}  # fmt: skip
_MOST = 1024
"""GPUs of one host."""
_SIZE = re.compile(r"(?:(?P<count>\d+)\s*[x*×]\s*)?(?P<size>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, by its number on the host."""

    index: int
    memory: int
    """Bytes that engines may take together."""


def read_gpus(texts: Sequence[str]) -> tuple[Gpu, ...]:
    """`24GiB`, `80GB`, `24` (GiB) or `2x24GiB`, each as often as there are such GPUs.

    Raises:
        HanlinError: a text that is not the size of a GPU.
    """
    sizes: list[int] = []
    for text in texts:
        size, count = _read(text) or _refuse(f"--gpu {text}", "24GiB or 2x24GiB")
        sizes += [size] * count
    return tuple(Gpu(index, size) for index, size in enumerate(sizes))


def read_size(text: str, *, option: str) -> int:
    """`24GiB`, `80GB` or `24` (GiB), in bytes.

    Raises:
        HanlinError: a text that is not a size.
    """
    size, count = _read(text) or _refuse(f"{option} {text}", "24GiB")
    return size if count == 1 else _refuse(f"{option} {text}", "24GiB")


def _read(text: str) -> tuple[int, int] | None:
    found = _SIZE.fullmatch(text.strip().lower())
    unit = _UNITS.get(found["unit"]) if found else None
    if not found or unit is None:
        return None
    size, count = float(found["size"]) * unit, float(found["count"] or 1)
    if not 1 <= size < math.inf or not 1 <= count <= _MOST:
        return None
    return int(size), int(count)


def _refuse(what: str, example: str) -> NoReturn:
    raise HanlinError(f"{what} is not a size of memory; write it as {example}.")
