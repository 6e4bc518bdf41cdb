"""Tensors of torch as safetensors files, and the index over them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from convert.errors import ConvertError
from convert.forward.checkpoint import FLOATS
from convert.weights.dtypes import STORAGE, Raw, decode, encode, is_finite
from convert.weights.output import HashedFile
from convert.weights.safetensors_files import header_bytes
from convert.weights.tensors import TensorInfo, TensorSource, blocks

_NAMES = {
    torch.int32: "I32",
    torch.int64: "I64",
    **{torch_type: name for name, torch_type in FLOATS.items()},
}


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished file, as the draft remembers it."""

    file: str
    sha256: str
    size: int
    tensors: Mapping[str, int]
    """Bytes of each tensor in it."""


def write_tensors(folder: Path, file: str, tensors: Mapping[str, Tensor]) -> Shard:
    """A file of tensors that are in memory."""
    infos = [
        TensorInfo(name, _NAMES[tensor.dtype], tuple(tensor.shape))
        for name, tensor in tensors.items()
    ]
    with HashedFile(folder / file, header_bytes(infos)) as out:
        for info in infos:
            out.write(_checked(info.name, _raw(tensors[info.name], info.dtype), info.dtype))
    return _shard(out, infos)


def copy_tensors(
    folder: Path, file: str, source: TensorSource, *, infos: Iterable[TensorInfo], dtype: str
) -> Shard:
    """A file of tensors copied from elsewhere, block by block; fp32 becomes `dtype`."""
    old = list(infos)
    new = [
        TensorInfo(info.name, dtype if info.dtype == "F32" else info.dtype, info.shape)
        for info in old
    ]
    with HashedFile(folder / file, header_bytes(new)) as out:
        for before, after in zip(old, new, strict=True):
            for start, stop in blocks(before):
                raw = source.read(before.name, start, stop)
                if before.dtype != after.dtype:
                    raw = encode(decode(raw, before.dtype), after.dtype)
                out.write(_checked(after.name, raw, after.dtype))
    return _shard(out, new)


def index_text(shards: Iterable[Shard]) -> str:
    """The index file of a folder."""
    where = {name: shard.file for shard in shards for name in shard.tensors}
    total = sum(size for shard in shards for size in shard.tensors.values())
    return json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=2) + "\n"


def _shard(out: HashedFile, infos: list[TensorInfo]) -> Shard:
    assert out.written is not None
    return Shard(
        file=out.path.name,
        sha256=out.written.sha256,
        size=out.written.size,
        tensors={info.name: info.size for info in infos},
    )


def _raw(tensor: Tensor, dtype: str) -> Raw:
    if tensor.dtype == torch.bfloat16:  # numpy has none
        tensor = tensor.view(torch.int16)
    return tensor.contiguous().cpu().numpy().view(STORAGE[dtype])


def _checked(name: str, raw: Raw, dtype: str) -> Raw:
    if not is_finite(raw, dtype):
        raise ConvertError(f"{name} holds values that are no finite numbers in {dtype}.")
    return raw
