"""One decoder layer from fp32 to what is stored: scale, fold, clip, round, pack."""

from __future__ import annotations

from dataclasses import fields

from torch import Tensor

from convert.forward.checkpoint import Checkpoint, join_fused, prefix
from convert.forward.decoder import Decoder, Layer, Norms, Site
from convert.forward.int4 import Codes, quantise
from convert.forward.layout import Layout
from convert.geometry import Role
from convert.quantize.clip import NEVER, best_shrink
from convert.quantize.scale import Format, best_scale, fold
from convert.quantize.seen import Seen


def quantised_layer(
    decoder: Decoder, layer: Layer, seen: dict[Site, Seen], *, target: Format, clip: bool
) -> tuple[Layer, dict[Role, Codes]]:
    """The layer with its scalings folded in, and the codes of its matrices; uses `layer` up."""
    columns = {}
    for site in Site:  # in the order the layer computes, so each search sees what is before it
        found = best_scale(decoder, layer, site, seen=seen[site], target=target)
        seen[site].windows.clear()
        layer, columns[site] = fold(decoder, layer, site, found, target.dtype)
    codes = {}
    for site in Site:
        grams = seen[site].scaled_grams(columns[site])
        for role in site.roles:
            weight = layer.weights[role]
            shrink = (
                best_shrink(weight, grams, target.dtype) if clip and role not in NEVER else None
            )
            codes[role] = quantise(weight, target.group, target.dtype, shrink)
    return layer, codes


def stored_layer(
    checkpoint: Checkpoint,
    index: int,
    layer: Layer,
    *,
    codes: dict[Role, Codes],
    target: Format,
    layout: Layout,
) -> dict[str, Tensor]:
    """The tensors of a quantised layer under the names they have in a model folder."""
    stored: dict[str, Tensor] = {}
    for name, role in checkpoint.linears.items():
        module = f"{prefix(index)}{name}"
        packed = layout.pack(_joined(checkpoint, role, codes))
        stored |= {f"{module}.{mark}": tensor for mark, tensor in packed.items()}
        if f"{module}.bias" in checkpoint.source.infos:
            bias = _joined_rows(checkpoint, role, dict(layer.biases))
            stored[f"{module}.bias"] = bias.to(target.dtype)
    norms = [getattr(layer.norms, field.name) for field in fields(Norms)]
    for name, norm in zip(checkpoint.norms, norms, strict=False):
        stored[f"{prefix(index)}{name}.weight"] = norm.to(target.dtype)
    return stored


def _joined(checkpoint: Checkpoint, role: Role, codes: dict[Role, Codes]) -> Codes:
    if role is not Role.fused:
        return codes[role]
    parts = {
        field.name: _joined_rows(
            checkpoint, role, {r: getattr(c, field.name) for r, c in codes.items()}
        )
        for field in fields(Codes)
    }
    return Codes(**parts)


def _joined_rows(checkpoint: Checkpoint, role: Role, rows: dict[Role, Tensor]) -> Tensor:
    """What has a row per output, put together again where the folder has it fused."""
    if role is not Role.fused:
        return rows[role]
    query, key, value = rows[Role.query], rows[Role.key], rows[Role.value]
    return join_fused(query, key, value, checkpoint.geometry)
