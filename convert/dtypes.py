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

FLOATS = ("F64", "F32", "F16", "BF16")
"""What an adapter can be added to."""

_EXPONENT = {"F16": 0x7C00, "BF16": 0x7F80}


def decode(raw: Raw, dtype: str) -> Floats:
    """A new fp32 array with the values of a raw one."""
    if dtype == "BF16":
        wide = np.left_shift(raw, 16, dtype=np.uint32)
        return wide.view(np.float32)
    return raw.astype(np.float32)


def encode(values: Floats, dtype: str) -> Raw:
    """The raw form of fp32 values, rounded to the nearest and ties to even; uses `values` up."""
    if dtype == "BF16":
        return _to_bfloat16(values)
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, which `is_finite` sees
        return values.astype(STORAGE[dtype], copy=False)


def _to_bfloat16(values: Floats) -> Raw:
    """Adding 0x7FFF, and one more where the kept part is odd, carries exactly when it must."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    carry = np.right_shift(bits, 16)
    np.bitwise_and(carry, 1, out=carry)
    np.add(carry, 0x7FFF, out=carry)
    np.add(bits, carry, out=bits)
    halves = bits.view(np.uint16).reshape(*bits.shape, 2)
    return np.ascontiguousarray(halves[..., 1])


def is_finite(raw: Raw, dtype: str) -> bool:
    """Whether no value is infinite or not a number; formats without such values always are."""
    if raw.size == 0 or dtype not in FLOATS:
        return True
    mask = _EXPONENT.get(dtype)
    if mask is None:
        return bool(np.isfinite(raw).all())
    exponents = np.bitwise_and(raw.view(np.uint16), mask)
    return int(exponents.max()) < mask
