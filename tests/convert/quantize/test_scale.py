"""The search: what is folded changes no function, and what is found errs less."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convert.forward.checkpoint import open_checkpoint
from convert.forward.decoder import Decoder, Layer, Site
from convert.forward.int4 import dequantise, quantise, rounded
from convert.quantize.clip import best_shrink
from convert.quantize.scale import Format, best_scale, fold
from convert.quantize.seen import Watching
from tests.convert.quantize.conftest import Make

TARGET = Format(128, torch.bfloat16)
ARCHITECTURES = ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "InternLM2ForCausalLM"]


def prepared(folder: Path) -> tuple[Decoder, Layer, Watching, torch.Tensor]:
    """The first layer of a model, and what passed through it."""
    with open_checkpoint(folder) as checkpoint:
        decoder = checkpoint.decoder(32, "cpu")
        layer = checkpoint.layer(0, "cpu")
    hidden = torch.randn(4, 32, 256, generator=torch.Generator().manual_seed(0))
    hidden[..., ::29] *= 20  # channels that carry much, as in trained models
    watching = Watching(128, range(4))
    for first in (0, 2):  # text passes in batches
        watching.begin(first)
        decoder.forward(layer, hidden[first : first + 2], watching)
    return decoder, layer, watching, hidden


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("heads", [2, 4])
def test_folding_changes_no_function(make_model: Make, arch: str, heads: int) -> None:
    decoder, layer, _, hidden = prepared(make_model(arch, num_key_value_heads=heads))
    before = decoder.forward(layer, hidden)
    random = torch.Generator().manual_seed(3)
    for site in Site:
        inputs = layer.weights[site.roles[0]].shape[1]
        columns = torch.rand(inputs, generator=random) * 3 + 0.2
        if site is Site.attention_out and heads == 2:
            size = decoder.geometry.head_dim
            columns = columns.reshape(2, -1, size)[:, :1].expand(2, 2, size).flatten()
        layer, _ = fold(decoder, layer, site, columns, torch.bfloat16)
    after = decoder.forward(layer, hidden)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


def test_what_is_folded_into_a_norm_is_exact_in_its_format(make_model: Make) -> None:
    decoder, layer, _, _ = prepared(make_model())
    columns = torch.rand(256) + 0.5
    folded, _ = fold(decoder, layer, Site.attention_in, columns, torch.bfloat16)
    norm = folded.norms.attention
    assert torch.equal(norm, norm.to(torch.bfloat16).float())
    assert not torch.equal(norm, layer.norms.attention)


@pytest.mark.parametrize("site", list(Site))
def test_a_found_scaling_errs_less_than_none(make_model: Make, site: Site) -> None:
    decoder, layer, watching, _ = prepared(make_model())
    seen = watching.at[site]
    x = torch.cat(seen.windows)
    wanted = decoder.rest(layer, site, x)

    def error(columns: torch.Tensor) -> float:
        trial = {r: rounded(layer.weights[r], 128, TARGET.dtype, columns) for r in site.roles}
        return float((decoder.rest(layer.with_weights(trial), site, x) - wanted).square().mean())

    found = best_scale(decoder, layer, site, seen=seen, target=TARGET)
    plain = error(torch.ones_like(found))
    after_a_norm = site in (Site.attention_in, Site.feed_forward_in)  # where channels differ most
    assert error(found) < plain * (0.95 if after_a_norm else 1.01)


def test_clipping_minimises_the_outputs_error(make_model: Make) -> None:
    _, layer, watching, _ = prepared(make_model())
    site = Site.feed_forward_out
    seen = watching.at[site]
    weight = layer.weights[site.roles[0]].clone()
    weight[:, ::50] *= 6  # outliers worth clipping
    shrink = best_shrink(weight, seen.grams, torch.bfloat16)
    x = torch.cat(seen.windows).flatten(0, 1)

    def errors(shrunk: torch.Tensor | None) -> torch.Tensor:
        near = dequantise(quantise(weight, 128, torch.bfloat16, shrunk))
        parts = [x[:, g : g + 128] @ (near - weight)[:, g : g + 128].T for g in range(0, 384, 128)]
        return torch.stack([part.square().sum(0) for part in parts], dim=1)

    assert (errors(shrink) <= errors(None) * 1.001).all()
    assert (shrink < 1).any()
    assert errors(shrink).sum() < errors(None).sum() * 0.98


def test_the_sums_are_those_of_all_text(make_model: Make) -> None:
    _, _, watching, _ = prepared(make_model())
    seen = watching.at[Site.attention_out]
    x = torch.cat(seen.windows).flatten(0, 1)  # here every window is kept
    assert seen.tokens == 4 * 32
    torch.testing.assert_close(seen.mean_size, x.abs().mean(0))
    gram = x[:, 128:256].T @ x[:, 128:256]
    torch.testing.assert_close(seen.grams[1], gram, rtol=1e-4, atol=1e-4 * float(gram.max()))
