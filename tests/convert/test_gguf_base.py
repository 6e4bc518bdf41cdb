"""A GGUF file as a base: the same weights, ids and text as Hugging Face's own way from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from convert.errors import DamagedError, UnsupportedError
from convert.gguf.file import opened_gguf
from convert.gguf.tokenizer import read_vocabulary
from convert.merge.merged import merged
from convert.merged_folder import merge
from convert.weights.dtypes import decode
from tests.convert.making import MINI
from tests.convert.test_gguf import TEXTS, written

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of itself


def weights(base: Path) -> dict[str, np.ndarray]:
    with merged(base, None) as (source, _):
        return {
            name: decode(source.read(name, 0, info.rows), info.dtype)
            for name, info in source.infos.items()
        }


@pytest.mark.parametrize("model", ["mini", "tiny-llama", "tiny-qwen2", "tiny-qwen2-tied"])
def test_there_and_back_again(models: Path, tmp_path: Path, model: str) -> None:
    base = MINI if model == "mini" else models / model
    file = written(base, tmp_path / "x.gguf", "f32")
    before, after = weights(base), weights(file)
    if model.endswith("tied"):
        before.pop("lm_head.weight", None)
    assert set(before) == set(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)

    merge(file, None, tmp_path / "out")
    theirs, ours = (json.loads((d / "config.json").read_text()) for d in (base, tmp_path / "out"))
    for key in set(ours) & set(theirs) - {"torch_dtype", "bos_token_id", "eos_token_id"}:
        assert ours[key] == theirs[key], key
    said, heard = (
        transformers.PreTrainedTokenizerFast(tokenizer_file=str(d / "tokenizer.json"))
        for d in (base, tmp_path / "out")
    )
    for text in TEXTS:
        assert heard(text)["input_ids"] == said(text)["input_ids"], text
    again = read_vocabulary(tmp_path / "out", ours["vocab_size"])
    assert again.chat_template == read_vocabulary(base, theirs["vocab_size"]).chat_template


@pytest.mark.parametrize("rows", [(0, 64), (5, 6), (31, 97), (100, 128)])
def test_rows_of_reordered_heads(models: Path, tmp_path: Path, rows: tuple[int, int]) -> None:
    base = models / "tiny-llama"
    file = written(base, tmp_path / "x.gguf", "f32")
    name = "model.layers.1.self_attn.q_proj.weight"
    with opened_gguf(file) as opened:
        part = opened.read(name, *rows)
    assert np.array_equal(part, weights(base)[name][slice(*rows)])


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    file = written(MINI, tmp_path / "x.gguf", "q8_0")
    whole = file.read_bytes()
    for size in (3, 1000, len(whole) - 4096):
        file.write_bytes(whole[:size])
        with pytest.raises(DamagedError, match=r"x\.gguf"), opened_gguf(file):
            pass


def test_other_models_are_refused_by_name(tmp_path: Path) -> None:
    file = written(MINI, tmp_path / "x.gguf", "q8_0")
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0bloom", 1))
    with pytest.raises(UnsupportedError, match="architecture bloom"), opened_gguf(file):
        pass
    file.write_bytes(whole.replace(b"blk.3.ffn_up.weight", b"blk.3.ffn_UP.weight"))
    with pytest.raises(UnsupportedError, match=r"blk\.3\.ffn_UP"), opened_gguf(file):
        pass
