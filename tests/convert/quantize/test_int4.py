"""Codes, scales and zero points; and that both file layouts give back what they were given."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.errors import UnsupportedError
from convert.forward.int4 import Codes, by_group, dequantise, quantise, rounded
from convert.forward.layout import AwqGemm, CompressedTensors, Layout, choose


def random(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@given(
    rows=st.integers(1, 40), groups=st.integers(1, 3), group=st.sampled_from([32, 128]),
    scale=st.floats(1e-4, 100), offset=st.floats(-3, 3), seed=st.integers(0, 1000),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_weight_is_within_half_a_step(
    dtype: torch.dtype, rows: int, groups: int, group: int, scale: float, offset: float, seed: int
) -> None:
    weight = (random(rows, groups * group, seed) + offset) * scale
    quantised = quantise(weight, group, dtype)
    grouped = by_group(weight, group)
    ranges = grouped.amax(-1).clamp(min=0) - grouped.amin(-1).clamp(max=0)
    eps, least = torch.finfo(dtype).eps, torch.finfo(dtype).smallest_normal
    torch.testing.assert_close(quantised.scales.float(), ranges / 15, rtol=eps, atol=1e-6)
    error = by_group((dequantise(quantised) - weight).abs(), group).amax(-1)
    # rounding the scale may shift the far ends of the range by 15 steps of its own rounding
    scales = quantised.scales.float()
    assert (error <= 0.5 * scales + 15.5 * eps * scales.clamp(min=least)).all()  # or subnormal


def test_a_group_of_one_sign_keeps_its_far_end() -> None:
    weight = torch.linspace(1.0, 2.0, 128)[None]
    near = dequantise(quantise(weight, 128, torch.float16))
    assert (near - weight).abs().max() < 2 / 15 * 0.51


def test_a_group_of_zeros_stays_zero() -> None:
    quantised = quantise(torch.zeros(8, 128), 128, torch.float16)
    assert (dequantise(quantised) == 0).all()
    assert (quantised.scales > 0).all()


def test_codes_are_chosen_for_the_scale_that_is_stored() -> None:
    weight = random(64, 128)
    quantised = quantise(weight, 128, torch.bfloat16)
    best = (by_group(weight, 128) / quantised.scales.float().unsqueeze(-1)).round()
    wanted = (best + quantised.zeros.unsqueeze(-1)).clamp(0, 15)
    assert torch.equal(quantised.codes, wanted.flatten(1).to(torch.uint8))


def test_rounding_under_a_scaling_is_quantising_the_scaled_matrix() -> None:
    weight, columns = random(24, 256), torch.rand(256) + 0.5
    scaled = dequantise(quantise(weight * columns, 128, torch.bfloat16)) / columns
    torch.testing.assert_close(rounded(weight, 128, torch.bfloat16, columns), scaled)


@given(
    outputs=st.integers(1, 12), groups=st.integers(1, 3), seed=st.integers(0, 1000),
    layout=st.sampled_from([AwqGemm(), CompressedTensors()]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_what_is_packed_comes_back(outputs: int, groups: int, seed: int, layout: Layout) -> None:
    make = torch.Generator().manual_seed(seed)
    outputs, inputs = outputs * 8, groups * layout.group
    codes = Codes(
        torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8, generator=make),
        torch.rand(outputs, groups, generator=make).half(),
        torch.randint(0, 16, (outputs, groups), dtype=torch.uint8, generator=make),
    )
    stored = layout.pack(codes)
    assert set(stored) == set(layout.marks)
    back = layout.unpack(stored)
    for name in ("codes", "scales", "zeros"):
        assert torch.equal(getattr(back, name), getattr(codes, name))


def test_the_awq_layout_is_the_one_turbomind_reads() -> None:
    """Word by word: TurboMind takes output j of eight from nibble [0, 4, 1, 5, 2, 6, 3, 7][j]."""
    codes = torch.arange(8, dtype=torch.uint8)[:, None].expand(8, 128).contiguous()
    zeros = torch.arange(8, dtype=torch.uint8)[:, None]
    stored = AwqGemm().pack(Codes(codes, torch.ones(8, 1).half(), zeros))
    assert stored["qweight"].shape == (128, 1)
    assert stored["qzeros"].shape == (1, 1)
    assert stored["scales"].shape == (1, 8)
    for word in (stored["qweight"][0, 0].item(), stored["qzeros"][0, 0].item()):
        nibbles = [int(word) >> (4 * i) & 15 for i in range(8)]
        assert [nibbles[i] for i in (0, 4, 1, 5, 2, 6, 3, 7)] == list(range(8))


def test_compressed_tensors_are_in_plain_order() -> None:
    codes = (torch.arange(32, dtype=torch.uint8) % 16)[None].expand(8, 32).contiguous()
    zeros = torch.arange(8, dtype=torch.uint8)[:, None]
    stored = CompressedTensors().pack(Codes(codes, torch.ones(8, 1).half(), zeros))
    assert stored["weight_packed"].shape == (8, 4)
    assert stored["weight_zero_point"].shape == (1, 1)
    assert stored["weight_shape"].tolist() == [8, 32]
    for word in (stored["weight_packed"][0, 0].item(), stored["weight_zero_point"][0, 0].item()):
        assert [int(word) >> (4 * i) & 15 for i in range(8)] == list(range(8))


def test_the_layout_follows_from_the_widths() -> None:
    assert isinstance(choose({"a": (64, 128), "b": (128, 256)}), AwqGemm)
    assert isinstance(choose({"a": (64, 128), "b": (128, 576)}), CompressedTensors)


@pytest.mark.parametrize("shape", [(64, 100), (60, 128)])
def test_a_matrix_that_fits_no_layout_is_named(shape: tuple[int, int]) -> None:
    with pytest.raises(UnsupportedError, match=r"layers\.1\.odd is 6\d×1\d\d.*quantize: none"):
        choose({"layers.0.even": (64, 128), "layers.1.odd": shape})
