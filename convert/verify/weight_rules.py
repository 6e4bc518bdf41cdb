"""Rules about the weights: which files hold them, and whether they are layers a kernel takes."""

from __future__ import annotations

from collections.abc import Iterator

from convert.geometry import NAMES, Geometry, Place, Role, places
from convert.verify import values
from convert.verify.model_rules import compute_dtype, group_size
from convert.verify.report import REBUILD, Finding, NotApplicable
from convert.verify.view import View
from convert.weights.packing import (
    GROUP_SIZES,
    PER_WORD,
    Layer,
    PackingError,
    read_layer,
    scale_rows,
)
from convert.weights.safetensors_files import INDEX
from convert.weights.tensors import shown

_REQUANTIZE = "Quantise again with hanlin quantize."


def _layers(view: View) -> Iterator[tuple[Place, Layer]]:
    """The layers that can be read; those that cannot are rule 4's."""
    _known_method(view)
    for place in places(view.geometry):
        try:
            yield place, read_layer(view.tensors, place.name, view.method)
        except PackingError:
            continue


def _known_method(view: View) -> None:
    if view.method not in (None, *GROUP_SIZES):
        raise NotApplicable(f"the tensors of {view.method} are left to TurboMind's own loader")


def loadable_layers(view: View) -> Iterator[Finding]:
    _known_method(view)
    names = NAMES[view.geometry.family]
    if names.embedding not in view.tensors:
        yield Finding(names.embedding, "is missing.", REBUILD)
    for place in places(view.geometry):
        if place.role is Role.head and not _has_head(view, place.name):
            continue  # said above, or by rule 14
        try:
            layer = read_layer(view.tensors, place.name, view.method)
        except PackingError as error:
            remedy = _REQUANTIZE if view.method else REBUILD
            yield Finding(place.name, f"no kernel takes it: {error}.", remedy)
            continue
        yield from _right_shape(place, layer)
    yield from _norms(view, view.geometry)


def _has_head(view: View, name: str) -> bool:
    return any(tensor.startswith(f"{name}.") for tensor in view.tensors)


def _right_shape(place: Place, layer: Layer) -> Iterator[Finding]:
    wanted, found = (place.outputs, place.inputs), (layer.outputs, layer.inputs)
    if wanted != found:
        yield Finding(
            place.name,
            f"is {shown(found)}, and config.json asks for {shown(wanted)}.",
            "The config and the weights are not of one model; build it again.",
        )
    elif layer.bias is not None and layer.bias.shape != (place.outputs,):
        yield Finding(layer.bias.name, f"is {shown(layer.bias.shape)}.", REBUILD)


def _norms(view: View, geometry: Geometry) -> Iterator[Finding]:
    two = {
        "llama": ("input_layernorm", "post_attention_layernorm"),
        "internlm2": ("attention_norm", "ffn_norm"),
    }[geometry.family]
    inside = [f"model.layers.{i}.{name}.weight" for i in range(geometry.layers) for name in two]
    for name in (*inside, "model.norm.weight"):
        if name not in view.tensors:
            yield Finding(name, "is missing.", REBUILD)


def whole_groups(view: View) -> Iterator[Finding]:
    """4-bit layers come in whole groups of inputs and whole words of outputs."""
    if view.method is None:
        raise NotApplicable("the weights are not quantised")
    size = group_size(view)
    if size not in GROUP_SIZES.get(view.method, ()):
        raise NotApplicable("the group size is not a usable one (rule 3)")
    for place, layer in _layers(view):
        if layer.scales is None:
            continue
        rows = scale_rows(layer, view.method)
        if layer.inputs % size or layer.outputs % PER_WORD:
            yield Finding(
                place.name,
                f"has {layer.inputs} inputs and {layer.outputs} outputs, not whole groups of "
                f"{size} and {PER_WORD}.",
                "Use compressed-tensors with group size 32, or leave this model in 16 bits.",
            )
        elif rows != layer.inputs // size or not _zeros_fit(layer, rows, view.method):
            yield Finding(
                place.name,
                f"has scales for {rows} groups; {layer.inputs} inputs in groups of {size} are "
                f"{layer.inputs // size}, and the zeros must have as many.",
                _REQUANTIZE,
            )


def _zeros_fit(layer: Layer, rows: int, method: str | None) -> bool:
    if layer.zeros is None:
        return True
    words = layer.outputs // PER_WORD
    wanted = (words, rows) if method == "compressed-tensors" else (rows, words)
    return layer.zeros.shape == wanted


def one_set_of_files(view: View) -> Iterator[Finding]:
    others = sorted(n for n in view.files if n.endswith((".bin", ".pt")) and "/" not in n)
    if not view.shards and others:
        yield Finding(
            others[0],
            "the weights are pickled; TurboMind would unpickle them.",
            "Write them as safetensors: hanlin convert does so.",
        )
        return
    named = set(view.shards)
    stray = sorted(n for n in view.files if n.endswith(".safetensors") and n not in named)
    for name in stray:
        yield Finding(
            name,
            "is not among the files TurboMind reads, so it is stale or it is missing from the "
            "index.",
            "Remove it, or build the workspace again.",
        )
    for name in others:
        yield Finding(name, "lies beside the safetensors files and is never read.", "Remove it.")
    if view.index is None:
        yield from _doubles(view)


def _doubles(view: View) -> Iterator[Finding]:
    """Without an index every file is read, and of two tensors of one name the last one wins."""
    first: dict[str, str] = {}
    for shard, infos in view.headers.items():
        again = next((name for name in infos if name in first), None)
        if again:
            yield Finding(
                shard,
                f"holds {again}, which is also in {first[again]}; the one read last wins.",
                "Remove the stale file, or write an index.",
            )
        first.update(dict.fromkeys(infos, shard))


def true_headers(view: View) -> Iterator[Finding]:
    if view.index is None:
        _ = view.headers
        return
    held = {tensor: shard for shard, infos in view.headers.items() for tensor in infos}
    for tensor, shard in view.index.items():
        if tensor not in view.headers[shard]:
            yield Finding(INDEX, f"says that {tensor} is in {shard}, but it is not.", REBUILD)
    for tensor in sorted(held.keys() - view.index.keys()):
        yield Finding(
            held[tensor], f"holds {tensor}, which the index leaves out and nobody reads.", REBUILD
        )


def sound_numbers(view: View) -> Iterator[Finding]:
    if view.fresh:
        raise NotApplicable("every number was looked at when it was written")
    return values.sound_numbers(view, compute_dtype(view))
