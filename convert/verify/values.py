"""Rules that must look at every number: read in blocks, so memory does not grow with the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from convert.verify.report import Finding
from convert.weights.dtypes import FLOATS, Raw, decode
from convert.weights.safetensors_files import SafetensorsFile
from convert.weights.tensors import TensorInfo, blocks

if TYPE_CHECKING:
    from convert.verify.view import View

LARGEST_HALF = 65504.0
"""The largest number fp16 holds."""


def differ(view: View, one: str, other: str) -> bool:
    """Whether two tensors hold different bytes."""
    first, second = view.tensors[one], view.tensors.get(other)
    if second is None or (first.dtype, first.shape) != (second.dtype, second.shape):
        return True
    pairs = zip(_values(view, first), _values(view, second), strict=True)
    return any(not np.array_equal(left, right) for left, right in pairs)


def _values(view: View, info: TensorInfo) -> Iterator[Raw]:
    shard = next(name for name in view.shards if info.name in view.headers[name])
    file = SafetensorsFile(view.folder / shard)
    try:
        for start, stop in blocks(info):
            yield file.read(info.name, start, stop)
    finally:
        file.close()


def sound_numbers(view: View, computes_in: str) -> Iterator[Finding]:
    """Tensors with a number no kernel can use: not a number, infinite, or too large for fp16."""
    for info in view.tensors.values():
        if info.dtype not in FLOATS:
            continue
        narrows = computes_in == "F16" and info.dtype != "F16"
        worst = max((_worst(raw, info.dtype) for raw in _values(view, info)), default=0.0)
        if worst == np.inf:
            yield Finding(
                info.name,
                "holds numbers that are infinite or not numbers at all.",
                "Look where they came from: the checkpoint (a training that diverged) or a merge "
                "in fp16; then build it again.",
            )
        elif narrows and worst > LARGEST_HALF:
            yield Finding(
                info.name,
                f"reaches {worst:.6g}, and fp16 ends at {LARGEST_HALF:.0f}.",
                "Take the base in bfloat16, and build again.",
            )


def _worst(raw: Raw, dtype: str) -> float:
    """The largest magnitude of a block; infinity also stands for what is not a number."""
    if raw.size == 0:
        return 0.0
    values = raw if dtype == "F64" else decode(raw, dtype)
    low, high = float(values.min()), float(values.max())  # both are nan if any value is
    worst = max(-low, high)
    return worst if np.isfinite(worst) else np.inf
