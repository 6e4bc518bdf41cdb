"""The GPUs assistants are to be placed on: said on the command line, or asked of the driver."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from assistants.errors import HanlinError

_UNITS = {
    "": 1 << 30, "g": 1 << 30, "gib": 1 << 30, "gb": 10**9,
    "m": 1 << 20, "mib": 1 << 20, "mb": 10**6, "t": 1 << 40, "tib": 1 << 40,
}  # fmt: skip
_SIZE = re.compile(r"(?:(?P<count>\d+)\s*[x*×]\s*)?(?P<size>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)")
_ASK = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")


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
        found = _SIZE.fullmatch(text.strip().lower())
        unit = _UNITS.get(found["unit"]) if found else None
        if not found or unit is None or not float(found["size"]):
            raise HanlinError(
                f"--gpu {text} is not a size of memory; write it as 24GiB or 2x24GiB."
            )
        sizes += [int(float(found["size"]) * unit)] * int(found["count"] or 1)
    return tuple(Gpu(index, size) for index, size in enumerate(sizes))


def present_gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine, as its driver counts their memory; none where there is no driver.

    What other programs hold of them is not known here.
    """
    try:
        ran = subprocess.run(_ASK, capture_output=True, check=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ()
    sizes = [int(line) for line in ran.stdout.split() if line.isdigit()]
    return tuple(Gpu(index, size << 20) for index, size in enumerate(sizes))
