"""Writes the tensors of a source as a Hugging Face model folder: shards, index and the rest."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from convert.errors import UnsupportedError
from convert.weights.output import write_text
from convert.weights.safetensors_files import INDEX, SINGLE
from convert.weights.shard_file import ShardFile
from convert.weights.tensors import TensorInfo, TensorSource, blocks

DEFAULT_SHARD = 5 * 10**9

_KEPT = 24 << 20
"""glibc gives freed memory back to the system, and asks for it anew page by page, beyond twice the
largest piece it has seen freed; having seen this one, it keeps what the blocks need."""

_MOST_THREADS = 4
"""Each takes some 20 MiB, and the disk is behind long before there are more."""

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20,
          "GIB": 2**30}  # fmt: skip


def parse_size(text: str) -> int:
    """Bytes from "5GB" or "500MiB".

    Raises:
        UnsupportedError: it is not a size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    size = float(found[1]) * unit if found and unit else 0
    if not 1 <= size < math.inf:
        raise UnsupportedError(f"'{text}' is not a size; write for example 5GB or 500MiB.")
    return int(size)


def split(infos: Mapping[str, TensorInfo], limit: int) -> list[tuple[str, list[TensorInfo]]]:
    """Which tensors go into which file: in order, each file up to `limit` bytes."""
    groups: list[list[TensorInfo]] = [[]]
    room = limit
    for info in infos.values():
        if groups[-1] and info.size > room:
            groups.append([])
            room = limit
        groups[-1].append(info)
        room -= info.size
    if len(groups) == 1:
        return [(SINGLE, groups[0])]
    total = len(groups)
    return [(f"model-{i:05}-of-{total:05}.safetensors", g) for i, g in enumerate(groups, 1)]


def write_weights(
    source: TensorSource, folder: Path, *, limit: int, advance: Callable[[int], None]
) -> list[str]:
    """Write all tensors, as many at once as there are cores; returns the names of the files.

    A tensor is read and written by one thread, in blocks that do not depend on how many there
    are: the bytes are the same on every machine. `advance` is called from those threads.
    """
    files = split(source.infos, limit)
    np.empty(_KEPT, np.uint8)  # given back at once: see there
    for name, infos in files:
        with ShardFile(folder / name, infos) as file, ThreadPoolExecutor(_threads()) as pool:
            list(pool.map(partial(_copy, source, file, advance), infos))
    if len(files) > 1:
        write_text(folder / INDEX, _index(files))
    return [name for name, _ in files]


def _copy(
    source: TensorSource, file: ShardFile, advance: Callable[[int], None], info: TensorInfo
) -> None:
    for start, stop in blocks(info):
        file.write(info, start, source.read(info.name, start, stop))
        advance((stop - start) * info.row_bytes)


def _threads() -> int:
    return min(_MOST_THREADS, os.cpu_count() or 1)


def _index(files: list[tuple[str, list[TensorInfo]]]) -> str:
    total = sum(info.size for _, infos in files for info in infos)
    where = {info.name: name for name, infos in files for info in infos}
    index = {"metadata": {"total_size": total}, "weight_map": where}
    return json.dumps(index, indent=2) + "\n"
