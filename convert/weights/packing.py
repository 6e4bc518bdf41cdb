"""How the tensors under one name make up a linear layer: plain numbers, or 4 bits and their scales.

The suffixes, element types and shape ratios are those that TurboMind 0.14 to 0.18 accepts; they
decide what a workspace may contain and how many bytes of it reach a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from convert.weights.tensors import TensorInfo, shown

FLOATS = ("F16", "BF16", "F32")
GROUP_SIZES = {"awq": (128,), "gptq": (128,), "compressed-tensors": (32, 128)}
"""The group sizes TurboMind has 4-bit kernels for, by quantisation method."""

PACKED = {
    "awq": (".qweight", ".scales", ".qzeros"),
    "gptq": (".qweight", ".scales", ".qzeros"),
    "compressed-tensors": (".weight_packed", ".weight_scale", ".weight_zero_point"),
}
"""Suffixes of weight, scales and zeros, by quantisation method."""

PER_WORD = 8
"""4-bit values in one int32."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer as it lies in a folder."""

    inputs: int
    outputs: int
    bias: TensorInfo | None
    scales: TensorInfo | None = None
    """Present where the weight is 4-bit; their element type is also that of the zeros on a GPU."""
    zeros: TensorInfo | None = None


class PackingError(Exception):
    """Tensors that are not a layer; the text says what is wrong with them."""


def read_layer(infos: Mapping[str, TensorInfo], name: str, method: str | None) -> Layer:
    """The layer at `name`: 4-bit where a model quantised by `method` has packed tensors there.

    Raises:
        PackingError: tensors are missing or of a kind that no kernel takes.
    """
    weight, scale, zero = PACKED.get(method or "", ("", "", ""))
    bias = infos.get(f"{name}.bias")
    if bias is not None and bias.dtype not in FLOATS:
        raise PackingError(f"its bias is stored as {bias.dtype}")
    packed = infos.get(name + weight) if weight else None
    if packed is None:
        return _plain(infos, name, bias)
    scales, zeros = infos.get(name + scale), infos.get(name + zero)
    if scales is None or scales.dtype not in FLOATS:
        raise PackingError(f"it has {weight} but no {scale} in fp16, bf16 or fp32")
    if zeros is None and method == "awq":
        raise PackingError(f"it has {weight} but no {zero}")
    for tensor in (packed, zeros):
        if tensor is not None and (tensor.dtype != "I32" or len(tensor.shape) != 2):
            raise PackingError(f"{tensor.name} is {tensor.dtype} {shown(tensor.shape)}, not int32")
    inputs, outputs = _unpacked(packed.shape, method)
    if method != "compressed-tensors" and scales.shape[-1:] != (outputs,):
        raise PackingError(f"{weight} has {outputs} outputs and {scale} {shown(scales.shape)}")
    return Layer(inputs, outputs, bias, scales, zeros)


def _plain(infos: Mapping[str, TensorInfo], name: str, bias: TensorInfo | None) -> Layer:
    info = infos.get(f"{name}.weight")
    if info is None:
        found = sorted(key for key in infos if key.startswith(f"{name}."))
        raise PackingError(f"it has no .weight, only {', '.join(found) or 'nothing'}")
    if info.dtype not in FLOATS or len(info.shape) != 2:
        raise PackingError(
            f"its weight is {info.dtype} {shown(info.shape)}, not a matrix of floats"
        )
    return Layer(info.shape[1], info.shape[0], bias)


def _unpacked(shape: tuple[int, ...], method: str | None) -> tuple[int, int]:
    if method == "awq":
        return shape[0], shape[1] * PER_WORD
    if method == "gptq":
        return shape[0] * PER_WORD, shape[1]
    return shape[1] * PER_WORD, shape[0]


def scale_rows(layer: Layer, method: str | None) -> int:
    """How many groups of inputs have a scale of their own."""
    if layer.scales is None:
        return 0
    return layer.scales.shape[-1] if method == "compressed-tensors" else layer.scales.shape[0]
