"""Any model, any adapter, any shards: the merge is the exact sum rounded once, and nothing else.

The reference is made in fp64 here, with a rounding and a reading of headers of its own. The merge
sums in fp32, so each of its sums may be off by what fp32 loses on so many terms; rounding never
changes the order of two numbers, so what is written must lie between the roundings of the lowest
and of the highest sum that this allows. On CI hypothesis draws the same examples each time.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.merged_folder import merge

Floats = np.ndarray[Any, np.dtype[np.float64]]
FORMATS = {"BF16": (8, -125), "F16": (11, -13), "F32": (24, -125)}
"""Binary digits, and the exponent of the smallest normal number as frexp gives it."""
RAW = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "I64": "<i8", "U8": "u1", "F8_E4M3": "u1"}
UNIT = 2.0**-24
LARGE = (259, 257)
"""More than the 64 Ki numbers that are added at a time."""


def rounded(values: Floats, dtype: str) -> Floats:
    """To the nearest number that the format has, ties to even."""
    digits, lowest = FORMATS[dtype]
    step = np.exp2(np.maximum(np.frexp(values)[1], lowest) - digits)
    return np.rint(values / step) * step


def stored(values: Floats, dtype: str) -> bytes:
    """Numbers that the format has, as they lie in a file."""
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype(RAW[dtype]).tobytes()


def numbers(raw: bytes, dtype: str, shape: tuple[int, ...]) -> Floats:
    found = np.frombuffer(raw, RAW[dtype])
    if dtype == "BF16":
        found = (found.astype("<u4") << 16).view("<f4")
    return found.astype(np.float64).reshape(shape)


@dataclass(frozen=True)
class Tensor:
    """One tensor of the base, and what the adapter does to it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    fate: str
    """kept, low rank, or replaced."""
    of_adapter: str
    """The format of what the adapter brings for it."""


@dataclass(frozen=True)
class Drawn:
    """A base, an adapter, and how they are laid out."""

    tensors: list[Tensor]
    files: list[int]
    """In which shard each tensor lies."""
    listed: list[int]
    """The order of names in headers; that of the data is the order of `tensors`."""
    rank: int
    alpha: float
    coarse: bool
    """All numbers are multiples of 1/8: fp32 loses nothing, and many sums are ties."""
    dora: bool
    limit: int
    block: int
    seed: int


def drawn_tensor(draw: st.DrawFn, name: str) -> Tensor:
    fate = draw(st.sampled_from(["low rank", "low rank", "replaced", "kept"]))
    dtype = draw(st.sampled_from([*(RAW if fate == "kept" else FORMATS)]))
    side = st.one_of(st.integers(1, 9), st.sampled_from([1, 63, 64, 65]))
    least, most = (2, 2) if fate == "low rank" else (0, 3)
    shape = tuple(draw(st.lists(side, min_size=least, max_size=most)))
    return Tensor(name, dtype, shape, fate, draw(formats))


formats = st.sampled_from([*FORMATS])
stems = st.lists(st.text("aé你_0", min_size=1, max_size=4), min_size=1, max_size=3).map(".".join)


@st.composite
def models(draw: st.DrawFn) -> Drawn:
    names = [
        f"{stem}.weight" for stem in draw(st.lists(stems, min_size=1, max_size=6, unique=True))
    ]
    tensors = [drawn_tensor(draw, name) for name in names]
    if large := draw(st.sampled_from([False] * 7 + [True])):
        tensors[0] = replace(tensors[0], fate="low rank", shape=LARGE, dtype=draw(formats))
    whole = sum(math.prod(t.shape) * np.dtype(RAW[t.dtype]).itemsize for t in tensors)
    rank, coarse = draw(st.integers(1, 5)), draw(st.booleans())
    return Drawn(
        tensors=tensors,
        files=[draw(st.integers(0, 2)) for _ in names],
        listed=draw(st.permutations(range(len(names)))),
        rank=rank,
        alpha=rank if coarse else draw(st.sampled_from([1, 4, 6, 0.3, -2])),
        coarse=coarse,
        dora=not coarse and draw(st.booleans()),
        limit=draw(st.one_of(st.integers(1, whole + 1), st.just(whole), st.just(10**9))),
        block=4 << 20 if large else draw(st.sampled_from([1, 64, 1000, 4 << 20])),
        seed=draw(st.integers(0, 99)),
    )


def write(path: Path, content: list[tuple[str, str, tuple[int, ...], bytes]], listed: Any) -> None:
    header, at, entries = {}, 0, {}
    for name, dtype, shape, raw in content:
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    for name in listed:
        if name in entries:
            header[name] = entries[name]
    text = json.dumps(header, ensure_ascii=False).encode()
    data = b"".join(raw for *_, raw in content)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def read(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], tuple(entry["shape"]),
               content[begin + entry["data_offsets"][0] : begin + entry["data_offsets"][1]])
        for name, entry in header.items()
    }  # fmt: skip


class Made:
    """The drawn model and adapter on the disk, and the numbers in them."""

    def __init__(self, drawn: Drawn, folder: Path) -> None:
        self.drawn, self.random = drawn, np.random.default_rng(drawn.seed)
        self.base, self.adapter = folder / "base", folder / "adapter"
        self.raw = {t.name: self._of_base(t) for t in drawn.tensors}
        self.brought: dict[str, Floats] = {}
        self._write_base()
        self._write_adapter()

    def _of_base(self, tensor: Tensor) -> bytes:
        if tensor.dtype in FORMATS:
            return stored(self._numbers(tensor.shape, tensor.dtype), tensor.dtype)
        size = math.prod(tensor.shape) * np.dtype(RAW[tensor.dtype]).itemsize
        return self.random.integers(0, 256, size, np.uint8).tobytes()

    def _numbers(self, shape: tuple[int, ...], dtype: str) -> Floats:
        drawn = self.random.standard_normal(shape)
        return rounded(np.rint(drawn * 8) / 8 if self.drawn.coarse else drawn, dtype)

    def _write_base(self) -> None:
        self.base.mkdir()
        (self.base / "config.json").write_text('{"tie_word_embeddings": false}')
        tensors, files = self.drawn.tensors, self.drawn.files
        listed = [tensors[i].name for i in self.drawn.listed]
        where = {t.name: f"model-{n}.safetensors" for t, n in zip(tensors, files, strict=True)}
        for file in set(where.values()):
            here = [t for t in tensors if where[t.name] == file]
            write(self.base / file, [(t.name, t.dtype, t.shape, self.raw[t.name]) for t in here],
                  listed)  # fmt: skip
        index = json.dumps({"weight_map": where}, ensure_ascii=False)
        (self.base / "model.safetensors.index.json").write_text(index, encoding="utf-8")

    def _write_adapter(self) -> None:
        self.adapter.mkdir()
        config = {"peft_type": "LORA", "r": self.drawn.rank, "lora_alpha": self.drawn.alpha,
                  "use_dora": self.drawn.dora}  # fmt: skip
        (self.adapter / "adapter_config.json").write_text(json.dumps(config))
        content = [
            (f"base_model.model.{key}", tensor.of_adapter, shape,
             stored(self._bring(key, shape, tensor.of_adapter), tensor.of_adapter))
            for tensor in self.drawn.tensors
            for key, shape in self._keys(tensor)
        ]  # fmt: skip
        names = sorted(name for name, *_ in content)
        write(self.adapter / "adapter_model.safetensors", content, names)

    def _keys(self, tensor: Tensor) -> list[tuple[str, tuple[int, ...]]]:
        if tensor.fate == "replaced":
            return [(tensor.name, tensor.shape)]
        if tensor.fate == "kept":
            return []
        stem, (rows, columns) = tensor.name.removesuffix(".weight"), tensor.shape
        factors = [("lora_A.weight", (self.drawn.rank, columns)),
                   ("lora_B.weight", (rows, self.drawn.rank))]  # fmt: skip
        magnitude = [("lora_magnitude_vector", (rows,))] if self.drawn.dora else []
        return [(f"{stem}.{part}", shape) for part, shape in factors + magnitude]

    def _bring(self, key: str, shape: tuple[int, ...], dtype: str) -> Floats:
        self.brought[key] = self._numbers(shape, dtype)
        return self.brought[key]

    def expected(self, tensor: Tensor) -> tuple[Floats, Floats]:
        """The exact values, and how far fp32 may be from each of them."""
        if tensor.fate == "replaced":
            return self.brought[tensor.name], np.zeros(tensor.shape)
        stem = tensor.name.removesuffix(".weight")
        a, b = (self.brought[f"{stem}.lora_{part}.weight"] for part in "AB")
        scale = self.drawn.alpha / self.drawn.rank
        base = numbers(self.raw[tensor.name], tensor.dtype, tensor.shape)
        total = base + scale * (b @ a)
        sizes = np.abs(base) + abs(scale) * (np.abs(b) @ np.abs(a))
        lost = (self.drawn.rank + 3) * UNIT * sizes
        if not self.drawn.dora:
            return total, lost * (not self.drawn.coarse)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        least = length - np.linalg.norm(lost, axis=1, keepdims=True)
        magnitude = self.brought[f"{stem}.lora_magnitude_vector"][:, None]
        turned = total * magnitude / length
        farthest = np.abs(magnitude) * (np.abs(total) + lost) / least
        return turned, farthest - np.abs(turned) + 4 * UNIT * farthest


@settings(max_examples=150, deadline=None)
@given(models())
def test_a_merge_is_the_exact_sum_rounded_once(drawn: Drawn) -> None:
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr("convert.weights.tensors.BLOCK_BYTES", drawn.block)
        patch.setattr("os.fsync", lambda fd: None)  # takes most of the time, and proves nothing
        made, out = Made(drawn, Path(scratch)), Path(scratch) / "out"
        brings = any(tensor.fate != "kept" for tensor in drawn.tensors)
        merge(made.base, made.adapter if brings else None, out, max_shard_size=drawn.limit)
        files = {path.name: read(path) for path in out.glob("*.safetensors")}
        assert_laid_out(drawn, out, files)
        merged = {name: found for file in files.values() for name, found in file.items()}
        for tensor in drawn.tensors:
            assert_merged(made, tensor, *merged[tensor.name])


def assert_laid_out(drawn: Drawn, out: Path, files: dict[str, dict[str, Any]]) -> None:
    """Every tensor is in exactly one shard, no shard is too large, and the index knows it all."""
    names = [name for file in files.values() for name in file]
    assert sorted(names) == sorted(tensor.name for tensor in drawn.tensors)
    sizes = {name: sum(len(raw) for *_, raw in file.values()) for name, file in files.items()}
    assert all(sizes[name] <= drawn.limit or len(file) == 1 for name, file in files.items())
    if [*files] == ["model.safetensors"]:
        assert not (out / "model.safetensors.index.json").exists()
        return
    index = json.loads((out / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == sum(sizes.values())
    assert index["weight_map"] == {name: file for file in files for name in files[file]}
    count = len(files)
    assert set(files) == {f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)}


def assert_merged(
    made: Made, tensor: Tensor, dtype: str, shape: tuple[int, ...], raw: bytes
) -> None:
    assert (dtype, shape) == (tensor.dtype, tensor.shape)
    if tensor.fate == "kept":
        assert raw == made.raw[tensor.name]
        return
    ours = numbers(raw, dtype, shape)
    exact, lost = made.expected(tensor)
    low, high = rounded(exact - lost, dtype), rounded(exact + lost, dtype)
    assert np.all((low <= ours) & (ours <= high)), tensor.name
