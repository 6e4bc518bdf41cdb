"""Looking at every number takes no more memory for a large model than for a small one."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np

from convert import digests
from convert.verify.values import differ, sound_numbers
from convert.verify.view import View
from convert.weights.tensors import BLOCK_BYTES, TensorInfo
from tests.convert.verify import made

ROWS, COLUMNS = 4096, 4096


def large(folder: Path) -> View:
    """Two equal tensors of 32 MiB, of which the last number of one is infinite."""
    folder.mkdir()
    raw = np.full((ROWS, COLUMNS), 0x3C00, np.uint16)
    broken = raw.copy()
    broken[-1, -1] = 0x7F80
    made.write_tensors(
        folder / "model.safetensors", {"whole": ("BF16", raw), "broken": ("BF16", broken)}
    )
    return View(folder)


def test_memory_does_not_grow_with_the_weights(tmp_path: Path) -> None:
    view = large(tmp_path / "it")
    tracemalloc.start()
    found = list(sound_numbers(view, "BF16"))
    unequal = differ(view, "whole", "broken")
    digests.of_file(view.folder / "model.safetensors")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [finding.where for finding in found] == ["broken"]
    assert unequal
    assert peak < 8 * BLOCK_BYTES < view.tensors["whole"].size * 2


def test_equal_tensors_do_not_differ(tmp_path: Path) -> None:
    view = large(tmp_path / "it")
    assert not differ(view, "whole", "whole")
    assert differ(view, "whole", "no such tensor")


def test_a_block_of_nothing_is_sound(tmp_path: Path) -> None:
    made.write_tensors(
        tmp_path / "model.safetensors", {"none": ("F16", np.zeros((0, 4), np.uint16))}
    )
    assert list(sound_numbers(View(tmp_path), "F16")) == []
    assert View(tmp_path).tensors["none"] == TensorInfo("none", "F16", (0, 4))
