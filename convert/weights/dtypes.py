"""Number formats of weights: how they lie in a file, and how they become fp32 and come back.

numpy has no bfloat16, so raw tensors are carried as the unsigned integers they are stored in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Raw = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

STORAGE: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
        "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1", "F4": "u1",
        "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
        "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
    }.items()
}  # fmt: skip
"""By the names safetensors gives them."""

TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""What a model's configuration calls them."""

FLOATS = ("F64", "F32", "F16", "BF16")
"""What an adapter can be added to."""

_CACHED = 1 << 16
"""Elements worked on at a time where several passes go over them: 256 KiB in fp32 stay in a
core's own cache, so only the first pass waits for memory."""

_INFINITY = {"F64": 0x7FF << 52, "F32": 0xFF << 23, "F16": 0x1F << 10, "BF16": 0xFF << 7}
"""The bits of plus infinity; whatever is not a number has greater ones, but for the sign."""


def decode(raw: Raw, dtype: str) -> Floats:
    """A new fp32 array with the values of a raw one."""
    if dtype == "BF16":
        wide = np.left_shift(raw, 16, dtype=np.uint32)
        return wide.view(np.float32)
    return raw.astype(np.float32)


def encode(values: Floats, dtype: str) -> Raw:
    """The raw form of fp32 values, rounded to the nearest and ties to even."""
    if dtype == "BF16":
        return _to_bfloat16(values)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, which `is_finite` sees
        return values.astype(STORAGE[dtype], copy=False)


def add(raw: Raw, dtype: str, product: Floats, scale: np.float32) -> None:
    """Change `raw` to itself plus `scale` times `product`, summed in fp32 and rounded once; uses
    `product` up."""
    flat, stored = product.reshape(-1), raw.reshape(-1)
    scratch = np.empty(min(_CACHED, flat.size), np.uint32)
    for start in range(0, flat.size, _CACHED):
        here = slice(start, start + _CACHED)
        part = flat[here]
        if scale != 1:
            part *= scale
        if dtype == "BF16":
            _add_bfloat16(stored[here], part, scratch[: part.size])
        else:
            part += decode(stored[here], dtype)
            stored[here] = encode(part, dtype)


def _add_bfloat16(raw: Raw, values: Floats, scratch: npt.NDArray[np.uint32]) -> None:
    """In place throughout, and each pass in one format: casts on the way cost as much again."""
    scratch[:] = raw
    scratch <<= 16
    values += scratch.view(np.float32)
    bits = values.view(np.uint32)
    _round_to_bfloat16(bits, scratch)
    raw[:] = bits


def _to_bfloat16(values: Floats) -> Raw:
    bits = np.array(values, np.float32, order="C").view(np.uint32)
    _round_to_bfloat16(bits, np.empty_like(bits))
    return bits.astype(np.uint16)


def _round_to_bfloat16(bits: npt.NDArray[np.uint32], scratch: npt.NDArray[np.uint32]) -> None:
    """Adding 0x7FFF, and one more where the kept part is odd, carries exactly when it must."""
    np.right_shift(bits, 16, out=scratch)
    scratch &= 1
    scratch += 0x7FFF
    bits += scratch
    bits >>= 16


def is_finite(raw: Raw, dtype: str) -> bool:
    """Whether no value is infinite or not a number; formats without such values always are.

    Read as integers, such values are greater than all others of their sign: the greatest signed
    integer tells of the positive ones, the greatest unsigned integer of the negative ones.
    """
    infinity = _INFINITY.get(dtype)
    if raw.size == 0 or infinity is None:
        return True
    size = raw.dtype.itemsize
    sign = 1 << (8 * size - 1)
    positive, negative = raw.view(f"<i{size}").max(), raw.view(f"<u{size}").max()
    return int(positive) < infinity and int(negative) < sign + infinity
