"""The arithmetic of a merge: rounding, finiteness, one thread, and the file that takes it."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from convert.errors import BuildError
from convert.merge.blas import one_thread
from convert.merge.merged import merged
from convert.merged_folder import merge
from convert.weights.dtypes import STORAGE, add, decode, encode, is_finite
from convert.weights.output import HashedFile
from convert.weights.safetensors_files import SafetensorsFile
from convert.weights.shard_file import ShardFile
from convert.weights.tensors import TensorInfo
from tests.convert.making import MINI, ROOT, small_adapter, small_base


def nearest_bfloat16(values: np.ndarray) -> np.ndarray:
    """The slow way: of the two neighbours the nearer one, of two equally near the even one."""
    bits = values.view(np.uint32).astype(np.uint64)
    low, rest = bits >> 16, bits & 0xFFFF
    up = (rest > 0x8000) | ((rest == 0x8000) & (low % 2 == 1))
    return (low + up).astype(np.uint16)


def test_bfloat16_is_rounded_to_the_nearest_and_ties_to_even() -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 200_000, dtype=np.uint32)
    ties = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    values = np.concatenate([bits, ties]).view(np.float32)
    values = values[np.isfinite(values)]
    assert np.array_equal(encode(values, "BF16"), nearest_bfloat16(values))


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
def test_what_is_no_number_is_seen_wherever_it_stands(dtype: str) -> None:
    largest = {"BF16": 3.38e38, "F16": 65504.0, "F32": 3.4e38, "F64": 3.4e38}[dtype]
    for value in (largest, -largest, 0.0, -0.0):
        assert is_finite(encode(np.full(5, value, np.float32), dtype), dtype)
    for wrong in (np.inf, -np.inf, np.nan, -np.nan):
        for place in (0, 17, 99):
            values = np.full(100, -1.5, np.float32)
            values[place] = wrong
            with np.errstate(invalid="ignore"):
                assert not is_finite(encode(values, dtype), dtype)
    assert is_finite(np.empty((0, 4), STORAGE[dtype]), dtype)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_sums_in_slices_are_the_sums_of_the_whole(dtype: str, scale: float) -> None:
    random = np.random.default_rng(1)
    raw = encode(random.standard_normal((300, 701)).astype(np.float32), dtype)
    product = random.standard_normal(raw.shape).astype(np.float32)
    whole = encode(decode(raw, dtype) + product * np.float32(scale), dtype)
    add(raw, dtype, product.copy(), np.float32(scale))
    assert np.array_equal(raw, whole)


def threads() -> int:
    import numpy._core._multiarray_umath as module

    library = ctypes.CDLL(module.__file__)
    if not hasattr(library, "scipy_openblas_get_num_threads64_"):
        pytest.skip("numpy has no OpenBLAS of its own here")
    return int(library.scipy_openblas_get_num_threads64_())


def test_products_are_made_by_one_thread_and_only_during_a_merge(tmp_path: Path) -> None:
    before = threads()
    with one_thread():
        assert threads() == 1
    assert threads() == before
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter")
    with merged(base, adapter):
        assert threads() == 1
    assert threads() == before


def test_a_merge_gives_each_caller_an_array_of_its_own(tmp_path: Path) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter")
    with merged(base, adapter) as (source, _):
        name = "model.layers.0.self_attn.q_proj.weight"
        first = source.read(name, 0, 8)
        copy = first.copy()
        assert not np.array_equal(source.read(name, 8, 16), copy)
        assert np.array_equal(first, copy)
        for info in source.infos.values():
            whole = source.read(info.name, 0, info.rows)
            starts = range(0, info.rows, 7)
            parts = [source.read(info.name, i, min(i + 7, info.rows)) for i in starts]
            assert np.allclose(
                *(decode(x, "BF16") for x in (np.concatenate(parts), whole)), atol=0.02
            )


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (5 << 20) + 3])
def test_a_file_is_what_its_hash_says(tmp_path: Path, size: int) -> None:
    data = np.random.default_rng(2).integers(0, 256, size, dtype=np.uint8)
    with HashedFile(tmp_path / "x", b"head") as file:
        file.write(data)
    content = (tmp_path / "x").read_bytes()
    assert content == b"head" + data.tobytes()
    assert file.written is not None
    assert file.written.sha256 == hashlib.sha256(content).hexdigest()
    assert file.written.size == len(content)


def test_a_shard_takes_its_tensors_in_any_order_from_any_thread(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    infos = [TensorInfo(f"t{i}", "F32", (2 + i, 3 * i)) for i in range(40)]
    values = {i.name: random.standard_normal(i.shape).astype(np.float32) for i in infos}
    parts = [(info, row) for info in infos for row in range(info.rows)]
    random.shuffle(parts)
    path = tmp_path / "x.safetensors"
    with ShardFile(path, infos) as file, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda p: file.write(*p, values[p[0].name][p[1] : p[1] + 1]), parts))
    written = SafetensorsFile(path)
    for info in infos:
        assert np.array_equal(written.read(info.name, 0, info.rows), values[info.name])
    written.close()


def test_what_the_disk_refuses_behind_our_back_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refused)
    info = TensorInfo("t", "U8", (65 << 20,))
    with (
        pytest.raises(BuildError, match="cannot be written: Input/output error"),
        ShardFile(tmp_path / "x", [info]) as file,
    ):
        file.write(info, 0, np.zeros(info.shape, np.uint8))


def test_as_many_threads_as_cores_and_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = ROOT / "assistants" / "adapters" / "wishes"
    found = set()
    for cores in (1, 2, 64, None):
        monkeypatch.setattr(os, "cpu_count", lambda n=cores: n)
        (name,) = merge(MINI, adapter, tmp_path / str(cores))
        found.add((tmp_path / str(cores) / name).read_bytes())
    assert len(found) == 1


def test_a_merge_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys, hanlin.commands, hanlin.build, convert.merged_folder\n"
        "print(*{'pydantic', 'yaml', 'httpx', 'gguf', 'torch', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.split() == []
