"""Which inputs of a matrix deserve more of the 4-bit grid, found by trying.

AWQ (Lin et al., "AWQ: Activation-aware Weight Quantization", MLSys 2024, arXiv:2306.00978): an
input channel that carries large activations is multiplied by s > 1 in the weights and divided by s
where it comes from, which leaves the function as it is and its rounding error smaller by s. With
Q the rounding to 4 bits, X the activations and s_X their mean size per channel,

    L(s) = ‖ Q(W·diag(s)) · diag(s)⁻¹ · X − W·X ‖        s = s_X^α,   α* = argmin L(s_X^α)

over a grid of α in [0, 1). As in the authors' program the norm is taken of the block's output (of
attention with its softmax, of the gated feed-forward), not of the single product. The grid also
holds s = s_X^α / s_W^(1−α), where s_W is the mean size of a channel's weights within their groups:
LMDeploy and AutoAWQ search these, and on some layers they win.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convert.forward.decoder import Decoder, Layer, Site
from convert.forward.int4 import by_group, rounded, row_blocks
from convert.geometry import Role
from convert.quantize.seen import Seen

STEPS = 10
"""Values of α that are tried, evenly from 0."""

_SMALLEST = 1e-4
"""Of a channel's size relative to the mean: dead channels must not blow a scale up."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a weight is quantised to."""

    group: int
    dtype: torch.dtype
    """Of what is stored beside the codes: scales, norms, biases."""


def best_scale(decoder: Decoder, layer: Layer, site: Site, *, seen: Seen, target: Format) -> Tensor:
    """The scaling of a site's inputs under which the block's output changes least."""
    x = torch.cat(seen.windows)
    wanted = decoder.rest(layer, site, x)
    best = torch.ones_like(seen.mean_size)
    least = float("inf")
    for columns in _candidates(decoder, layer, site, seen):
        trial = {
            role: rounded(layer.weights[role], target.group, target.dtype, columns)
            for role in site.roles
        }
        error = decoder.rest(layer.with_weights(trial), site, x).sub_(wanted).square_().mean()
        if float(error) < least:
            best, least = columns, float(error)
    return best


def _candidates(decoder: Decoder, layer: Layer, site: Site, seen: Seen) -> Iterator[Tensor]:
    sizes = _shared(decoder, site, _relative(seen.mean_size))
    weights = _shared(decoder, site, _relative(_weight_sizes(layer, site, seen.group)))
    for step in range(STEPS):
        alpha = step / STEPS
        yield _centred(sizes**alpha)
        if step:  # α = 0 is the same for every activation, and the first family has "no scaling"
            yield _centred(sizes**alpha / weights ** (1 - alpha))


def _relative(sizes: Tensor) -> Tensor:
    return (sizes / sizes.mean().clamp(min=1e-12)).clamp(min=_SMALLEST)


def _centred(columns: Tensor) -> Tensor:
    """Scaled so that the greatest and the least are equally far from 1."""
    return columns / (columns.max() * columns.min()).sqrt()


def _shared(decoder: Decoder, site: Site, sizes: Tensor) -> Tensor:
    """With grouped queries several heads of attention's output come from one value head, which can
    be divided only once: their channels share a scale."""
    geometry = decoder.geometry
    if site is not Site.attention_out or geometry.heads == geometry.kv_heads:
        return sizes
    heads = sizes.reshape(geometry.kv_heads, -1, geometry.head_dim)
    return heads.mean(1, keepdim=True).expand_as(heads).flatten()


def _weight_sizes(layer: Layer, site: Site, group: int) -> Tensor:
    """The mean size of each input's weights, each relative to the greatest of its group."""
    total: Tensor | float = 0.0
    for role in site.roles:
        weight = layer.weights[role]
        for rows in row_blocks(weight):
            sizes = by_group(weight[rows], group).abs()
            sizes = sizes / sizes.amax(-1, keepdim=True).clamp(min=1e-12)
            total = total + sizes.flatten(1).sum(0)
    assert isinstance(total, Tensor)  # every site has weights
    return total


def fold(
    decoder: Decoder, layer: Layer, site: Site, columns: Tensor, dtype: torch.dtype
) -> tuple[Layer, Tensor]:
    """Move a scaling into the weights of a site and out of where its inputs come from.

    The weights are changed in place. Returned are the layer and the scaling as it came to be:
    what a norm is divided by is rounded with it, and the weights take up exactly the difference,
    so that folding into a norm costs no precision.
    """
    if site in (Site.attention_in, Site.feed_forward_in):
        layer, columns = _fold_into_norm(layer, site, columns, dtype)
    else:
        source = Role.value if site is Site.attention_out else Role.up
        rows = _rows(decoder, site, columns)
        layer.weights[source].div_(rows[:, None])
        if source in layer.biases:
            layer = replace(layer, biases={**layer.biases, source: layer.biases[source] / rows})
    for role in site.roles:
        layer.weights[role].mul_(columns)
    return layer, columns


def _fold_into_norm(
    layer: Layer, site: Site, columns: Tensor, dtype: torch.dtype
) -> tuple[Layer, Tensor]:
    attention = site is Site.attention_in
    norm = layer.norms.attention if attention else layer.norms.feed_forward
    stored = (norm / columns).to(dtype).float()
    kept = stored.isfinite() & (stored != 0)
    stored = torch.where(kept, stored, norm)
    columns = torch.where(kept, norm / stored, torch.ones_like(norm))
    norms = replace(layer.norms, **{"attention" if attention else "feed_forward": stored})
    return replace(layer, norms=norms), columns


def _rows(decoder: Decoder, site: Site, columns: Tensor) -> Tensor:
    """The outputs that a site's inputs come from."""
    geometry = decoder.geometry
    if site is not Site.attention_out or geometry.heads == geometry.kv_heads:
        return columns
    return columns.reshape(geometry.kv_heads, -1, geometry.head_dim)[:, 0].flatten()
