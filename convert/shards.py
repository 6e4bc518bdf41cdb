"""Writes the tensors of a source as a Hugging Face model folder: shards, index and the rest."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import UnsupportedError, writing
from convert.merge import config_text
from convert.model_folder import companions
from convert.output import write_text
from convert.safetensors_files import INDEX, SINGLE
from convert.shard_file import ShardFile
from convert.tensors import TensorInfo, TensorSource, blocks

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
    if not found or found[2].upper() not in _UNITS or float(found[1]) <= 0:
        raise UnsupportedError(f"'{text}' is not a size; write for example 5GB or 500MiB.")
    return int(float(found[1]) * _UNITS[found[2].upper()])


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


def write_companions(base: Path, folder: Path, config: Mapping[str, Any]) -> None:
    """Tokenizer, templates, generation config and remote code as the base has them; the
    configuration as the merge has made it (untouched, byte for byte, where it changed nothing).
    A GGUF file has them inside it."""
    if base.is_file():
        # Here, because it brings the gguf package, which most merges need not load.
        from convert.gguf.kept_tokenizer import write_inside

        write_inside(base, folder)
        write_text(folder / "config.json", config_text(config))
        return
    for path in companions(base):
        try:
            shutil.copyfile(path, folder / path.name)
        except OSError as error:
            raise writing(folder / path.name, error) from error
    if json.loads((folder / "config.json").read_text(encoding="utf-8")) != config:
        write_text(folder / "config.json", config_text(config))
