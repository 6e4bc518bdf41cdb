"""The numbers in a GGUF file, read back by the gguf package, where sizes and values are awkward."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, dequantize, quantize

from convert.errors import UnsupportedError
from convert.gguf import model as gguf
from convert.gguf.model import to_q8_0
from convert.merge.merged import merged
from tests.convert.making import MINI, write_safetensors
from tests.convert.test_gguf import written

HIDDEN, INNER = 20, 36
"""No multiples of 32: neither of a block of eight bits nor of where a tensor may begin."""


def narrow_model(folder: Path, *, largest: float = 1.0) -> Path:
    """One layer, with the tokenizer of the embedded base."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(MINI / name, folder / name)
    config = json.loads((MINI / "config.json").read_text())
    config |= {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": 1,
               "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": HIDDEN // 2,
               "tie_word_embeddings": True}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    at, square = "model.layers.0", (HIDDEN, HIDDEN)
    shapes = {
        "model.embed_tokens.weight": (config["vocab_size"], HIDDEN),
        **{f"{at}.self_attn.{part}_proj.weight": square for part in "qkvo"},
        **{f"{at}.mlp.{part}_proj.weight": (INNER, HIDDEN) for part in ("gate", "up")},
        f"{at}.mlp.down_proj.weight": (HIDDEN, INNER),
        f"{at}.input_layernorm.weight": (HIDDEN,),
        f"{at}.post_attention_layernorm.weight": (HIDDEN,),
        "model.norm.weight": (HIDDEN,),
        # as old exports have them: llama.cpp computes the one and takes the other from the input
        f"{at}.self_attn.rotary_emb.inv_freq": (HIDDEN // 4,),
        "lm_head.weight": (config["vocab_size"], HIDDEN),
    }
    random = np.random.default_rng(4)
    tensors = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    tensors[f"{at}.mlp.down_proj.weight"][3, 5] = largest
    write_safetensors(folder / "model.safetensors", tensors, "F32")
    return folder


def values(path: Path) -> dict[str, np.ndarray]:
    return {
        tensor.name: dequantize(tensor.data, tensor.tensor_type)
        for tensor in GGUFReader(path).tensors
    }


@pytest.mark.parametrize("kind", ["q8_0", "f16", "f32"])
def test_rows_that_fill_no_block(tmp_path: Path, kind: gguf.Type) -> None:
    base = narrow_model(tmp_path / "base")
    path = written(base, tmp_path / "x.gguf", kind)
    found = values(path)
    assert len(found) == 11
    assert "output.weight" not in found
    with merged(base, None) as (source, _):
        pairs = {"blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
                 "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
                 "output_norm.weight": "model.norm.weight"}  # fmt: skip
        for theirs, ours in pairs.items():
            exact = source.read(ours, 0, source.infos[ours].rows)
            halved = kind != "f32" and exact.ndim > 1
            expected = exact.astype(np.float16).astype(np.float32) if halved else exact
            assert np.array_equal(found[theirs].reshape(exact.shape), expected), theirs
    kinds = {tensor.tensor_type.name for tensor in GGUFReader(path).tensors}
    assert kinds == {"F32"} if kind == "f32" else {"F32", "F16"}
    assert [file.name for file in tmp_path.glob("x.gguf*")] == ["x.gguf"]


def test_heads_are_never_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows are reordered, so a block holds whole heads, however small it is to be."""
    base = narrow_model(tmp_path / "base")
    whole = written(base, tmp_path / "whole.gguf", "f32").read_bytes()
    monkeypatch.setattr("convert.weights.tensors.BLOCK_BYTES", 15 * HIDDEN * 4)  # a head and a half
    assert written(base, tmp_path / "cut.gguf", "f32").read_bytes() == whole


def test_values_beyond_fp16_are_refused(tmp_path: Path) -> None:
    base = narrow_model(tmp_path / "base", largest=70_000)
    with pytest.raises(UnsupportedError, match=r"down_proj.* beyond what fp16 .* f32 or q8_0"):
        written(base, tmp_path / "x.gguf", "f16")
    assert (
        np.float32(70_000)
        in values(written(base, tmp_path / "y.gguf", "f32"))["blk.0.ffn_down.weight"]
    )


def test_eight_bits_are_rounded_half_away_from_zero() -> None:
    values = np.zeros((1, 32), np.float32)
    values[0, :6] = (127, 0.5, 1.5, 2.5, -0.5, -2.5)  # the scale is one
    ours = to_q8_0(values.copy())
    assert ours[0, 2:8].view(np.int8).tolist() == [127, 1, 2, 3, -1, -3]
    assert ours.tobytes() == quantize(values, GGMLQuantizationType.Q8_0).tobytes()
