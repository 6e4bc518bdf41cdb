"""How 4-bit codes lie in a file, in the two layouts TurboMind loads.

AWQ "GEMM", groups of 128: eight outputs in one int32, interleaved for the kernel that once read
them. compressed-tensors "pack-quantized", groups of 32: eight inputs in one int32, in order; it
serves where a width is no multiple of 128. Both hold the same codes; only their places differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from convert.errors import UnsupportedError
from convert.forward.int4 import Codes

BITS = 4
PER_WORD = 32 // BITS

_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which output of eight lies in nibble i, lowest first."""
_PLAIN_ORDER = tuple(range(PER_WORD))


class Layout(Protocol):
    """One way to store quantised matrices."""

    @property
    def group(self) -> int:
        """Inputs that share a scale."""

    @property
    def marks(self) -> tuple[str, ...]:
        """What is added to a module's name, for each tensor `pack` makes."""

    def pack(self, quantised: Codes) -> dict[str, Tensor]:
        """The tensors that are stored, by what is added to the module's name."""

    def unpack(self, stored: Mapping[str, Tensor]) -> Codes:
        """The codes of stored tensors."""

    def config(self) -> dict[str, Any]:
        """The `quantization_config` of config.json."""


def pack_words(codes: Tensor, order: tuple[int, ...]) -> Tensor:
    """Eight codes of the last axis to one int32; code `order[i]` lies in nibble i."""
    words = torch.zeros(
        (*codes.shape[:-1], codes.shape[-1] // PER_WORD), dtype=torch.int32, device=codes.device
    )
    for nibble, place in enumerate(order):
        words |= codes[..., place::PER_WORD].to(torch.int32) << (BITS * nibble)
    return words


def unpack_words(words: Tensor, order: tuple[int, ...]) -> Tensor:
    """The uint8 codes of packed words."""
    shape = (*words.shape[:-1], words.shape[-1] * PER_WORD)
    codes = torch.empty(shape, dtype=torch.uint8, device=words.device)
    for nibble, place in enumerate(order):
        codes[..., place::PER_WORD] = ((words >> (BITS * nibble)) & 15).to(torch.uint8)
    return codes


@dataclass(frozen=True, slots=True)
class AwqGemm:
    """`X.qweight` int32 (K, N/8), `X.qzeros` int32 (K/128, N/8), `X.scales` (K/128, N)."""

    group: int = 128
    marks: tuple[str, ...] = ("qweight", "qzeros", "scales")

    def pack(self, quantised: Codes) -> dict[str, Tensor]:
        return {
            "qweight": pack_words(quantised.codes.T, _AWQ_ORDER),
            "qzeros": pack_words(quantised.zeros.T, _AWQ_ORDER),
            "scales": quantised.scales.T.contiguous(),
        }

    def unpack(self, stored: Mapping[str, Tensor]) -> Codes:
        return Codes(
            codes=unpack_words(stored["qweight"], _AWQ_ORDER).T.contiguous(),
            scales=stored["scales"].T.contiguous(),
            zeros=unpack_words(stored["qzeros"], _AWQ_ORDER).T.contiguous(),
        )

    def config(self) -> dict[str, Any]:
        return {
            "quant_method": "awq", "version": "gemm", "bits": BITS, "group_size": self.group,
            "zero_point": True,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompressedTensors:
    """`X.weight_packed` int32 (N, K/8), `X.weight_scale` (N, K/32), `X.weight_zero_point` int32
    (N/8, K/32), `X.weight_shape` (N, K).

    The format speaks of codes from −8 to 7 and stores them with 8 added, zero points likewise:
    what lies in the file is 0…15 for both, as here.
    """

    group: int = 32
    marks: tuple[str, ...] = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")

    def pack(self, quantised: Codes) -> dict[str, Tensor]:
        return {
            "weight_packed": pack_words(quantised.codes, _PLAIN_ORDER),
            "weight_scale": quantised.scales,
            "weight_zero_point": pack_words(quantised.zeros.T, _PLAIN_ORDER).T.contiguous(),
            "weight_shape": torch.tensor(quantised.codes.shape, dtype=torch.int64),
        }

    def unpack(self, stored: Mapping[str, Tensor]) -> Codes:
        return Codes(
            codes=unpack_words(stored["weight_packed"], _PLAIN_ORDER),
            scales=stored["weight_scale"],
            zeros=unpack_words(stored["weight_zero_point"].T, _PLAIN_ORDER).T.contiguous(),
        )

    def config(self) -> dict[str, Any]:
        weights = {
            "num_bits": BITS, "type": "int", "symmetric": False, "strategy": "group",
            "group_size": self.group, "dynamic": False, "actorder": None, "block_structure": None,
            "observer": "minmax", "observer_kwargs": {},
        }  # fmt: skip
        scheme = {
            "targets": ["Linear"], "format": "pack-quantized", "weights": weights,
            "input_activations": None, "output_activations": None,
        }  # fmt: skip
        return {
            "quant_method": "compressed-tensors", "format": "pack-quantized",
            "quantization_status": "compressed", "global_compression_ratio": None,
            "kv_cache_scheme": None, "ignore": ["lm_head", "output"],
            "config_groups": {"group_0": scheme},
        }  # fmt: skip


def choose(shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """The layout that every one of these matrices (outputs, inputs) fits.

    Raises:
        UnsupportedError: a matrix fits neither; it is named.
    """
    for name, (outputs, inputs) in shapes.items():
        if outputs % PER_WORD or inputs % CompressedTensors().group:
            raise UnsupportedError(
                f"{name} is {outputs}×{inputs}: TurboMind's 4-bit layouts need outputs in eights "
                "and inputs in groups of 32; serve this model unquantised (quantize: none)."
            )
    fits = all(inputs % AwqGemm().group == 0 for _, inputs in shapes.values())
    return AwqGemm() if fits else CompressedTensors()
