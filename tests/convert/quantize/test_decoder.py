"""The decoder here computes what transformers computes, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convert.errors import DamagedError, UnsupportedError
from convert.fidelity.divergence import Divergence
from convert.fidelity.quantised import judge
from convert.forward.calibration import Held
from convert.forward.checkpoint import join_fused, open_checkpoint, split_fused
from convert.forward.decoder import rms_norm
from convert.forward.rope import rope_table
from convert.weights.model_folder import opened
from tests.convert.making import write_safetensors
from tests.convert.quantize.conftest import Make

POSITIONS = 48


def reference(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def tokens(vocab: int) -> torch.Tensor:
    return torch.randint(0, vocab, (3, POSITIONS), generator=torch.Generator().manual_seed(1))


def whole(ids: torch.Tensor) -> Held:
    """Text of which every token is an answer's."""
    return Held(ids, torch.ones_like(ids).bool(), torch.ones_like(ids).bool())


def assert_same_as_transformers(folder: Path) -> None:
    model = reference(folder)
    ids = tokens(model.config.vocab_size)
    with torch.inference_mode(), open_checkpoint(folder) as checkpoint:
        wanted = model.model(ids, output_hidden_states=True).hidden_states
        decoder = checkpoint.decoder(POSITIONS, "cpu")
        hidden = checkpoint.embedded(ids)
        states = [hidden]
        for index in range(checkpoint.geometry.layers):
            hidden = decoder.forward(checkpoint.layer(index, "cpu"), hidden)
            states.append(hidden)
        states[-1] = rms_norm(hidden, checkpoint.final_norm("cpu"), decoder.eps)
    for ours, theirs in zip(states, wanted, strict=True):
        size = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-6 * size)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2", "tiny-qwen2-tied"])
def test_on_models_that_transformers_has_written(models: Path, name: str) -> None:
    assert_same_as_transformers(models / name)


@pytest.mark.parametrize("arch", ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"])
def test_on_made_models(make_model: Make, arch: str) -> None:
    assert_same_as_transformers(make_model(arch))


SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 128},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
]  # fmt: skip


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s["rope_type"])
def test_with_scaled_positions(make_model: Make, scaling: dict[str, Any]) -> None:
    assert_same_as_transformers(make_model(rope_scaling=scaling))


def test_an_unknown_scaling_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="'longrope'"):
        rope_table({"rope_scaling": {"rope_type": "longrope"}}, 64, 8)


def test_internlm2_is_llama_with_its_projections_fused(make_model: Make, tmp_path: Path) -> None:
    """Its own code needs an old transformers; taken apart by the rule it is laid out by, its
    weights are a Llama, which transformers runs."""
    folder = make_model("InternLM2ForCausalLM")
    config = json.loads((folder / "config.json").read_text())
    llama = make_model("LlamaForCausalLM")
    renamed: dict[str, np.ndarray[Any, Any]] = {}
    with open_checkpoint(folder) as internlm, opened(llama) as names:
        for index in range(internlm.geometry.layers):
            layer = internlm.layer(index, "cpu")
            at = f"model.layers.{index}."
            for role, module in (("query", "self_attn.q_proj"), ("key", "self_attn.k_proj"),
                                 ("value", "self_attn.v_proj"), ("out", "self_attn.o_proj"),
                                 ("gate", "mlp.gate_proj"), ("up", "mlp.up_proj"),
                                 ("down", "mlp.down_proj")):  # fmt: skip
                weight = next(w for r, w in layer.weights.items() if r.name == role)
                renamed[f"{at}{module}.weight"] = weight.numpy()
            renamed[f"{at}input_layernorm.weight"] = layer.norms.attention.numpy()
            renamed[f"{at}post_attention_layernorm.weight"] = layer.norms.feed_forward.numpy()
        for old, new in (("tok_embeddings", "embed_tokens"), ("norm", "norm")):
            renamed[f"model.{new}.weight"] = internlm.read(f"model.{old}.weight").numpy()
        renamed["lm_head.weight"] = internlm.read("output.weight").numpy()
        assert set(renamed) == set(names.infos)
    write_safetensors(llama / "model.safetensors", renamed)
    assert config["num_key_value_heads"] == 2
    assert_same_as_transformers(llama)
    ids = tokens(config["vocab_size"])
    same = judge(llama, folder, whole(ids))  # the InternLM2 folder and its Llama twin
    assert same.divergence < 1e-6
    assert same.quantised == pytest.approx(same.original)
    assert max(error.carried for error in same.layers) < 1e-6


def test_fused_rows_are_split_as_lmdeploy_splits_them(make_model: Make) -> None:
    with open_checkpoint(make_model("InternLM2ForCausalLM")) as checkpoint:
        geometry = checkpoint.geometry  # 4 query heads, 2 key heads, 64 wide
    heads = torch.arange(8).repeat_interleave(64)
    query, key, value = split_fused(heads, geometry)
    assert [int(t[::64][0]) for t in (key, value)] == [2, 3]
    assert query[::64].tolist() == [0, 1, 4, 5]
    assert key[::64].tolist() == [2, 6]
    assert value[::64].tolist() == [3, 7]
    assert torch.equal(join_fused(query, key, value, geometry), heads)


def test_perplexity_is_transformers_loss(models: Path) -> None:
    folder = models / "tiny-qwen2-tied"
    model = reference(folder)
    ids = tokens(model.config.vocab_size)
    with torch.inference_mode():
        wanted = float(model(ids, labels=ids).loss.exp())
    found = judge(folder, folder, whole(ids))
    assert found.original == pytest.approx(wanted, rel=1e-5)
    assert found.growth == 1.0
    assert found.divergence == 0.0
    assert found.tokens == 3 * (POSITIONS - 1)


def test_only_answers_count_and_each_row_for_itself(models: Path) -> None:
    """What stands in front of an answer is read; what fills a row up behind it is not."""
    folder = models / "tiny-qwen2-tied"
    model = reference(folder)
    ids = tokens(model.config.vocab_size)[:2]
    real, answers = torch.ones_like(ids).bool(), torch.zeros_like(ids).bool()
    real[1, 20:], ids[1, 20:] = False, 0
    answers[0, 30:40], answers[1, 8:16] = True, True
    with torch.inference_mode():
        guesses = model(ids).logits[:, :-1].log_softmax(-1)
    own = guesses.gather(-1, ids[:, 1:, None])[..., 0][answers[:, 1:]]
    found = judge(folder, folder, Held(ids, real, answers))
    assert found.tokens == 18
    assert found.original == pytest.approx(float((-own.mean()).exp()), rel=1e-5)


def test_divergence_is_kullback_and_leiblers() -> None:
    random = torch.Generator().manual_seed(2)
    true, near = (torch.randn(7, 50, generator=random) * 4 for _ in range(2))
    found = Divergence(torch.arange(7))
    for first in range(0, 50, 15):  # the greatest comes late for some, early for others
        part = slice(first, first + 15)
        found.add(first, true[:, part], near[:, part])
    wanted = torch.nn.functional.kl_div(
        near.log_softmax(-1), true.log_softmax(-1), log_target=True, reduction="sum"
    )
    assert found.sum == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_act": "gelu"}, "activation gelu"),
        ({"architectures": ["MixtralForCausalLM"]}, "MixtralForCausalLM cannot be computed"),
        ({"partial_rotary_factor": 0.5}, "rotates only 0.5"),
        ({"use_sliding_window": True, "sliding_window": 32}, "attends over 32 tokens"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    make_model: Make, changes: dict[str, Any], sentence: str
) -> None:
    folder = make_model(**changes)
    with pytest.raises(UnsupportedError, match=sentence), open_checkpoint(folder) as checkpoint:
        checkpoint.decoder(POSITIONS, "cpu")


def test_a_tensor_without_a_rule_is_refused(make_model: Make) -> None:
    folder = make_model()
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["Qwen2ForCausalLM"]
    extra = {"model.layers.0.self_attn.sinks": np.zeros(4)}
    write_safetensors(folder / "model-extra.safetensors", extra)
    (folder / "model.safetensors").rename(folder / "model-first.safetensors")
    with pytest.raises(UnsupportedError, match=r"no rule for the tensor .*sinks"):
        open_checkpoint(folder).__enter__()


def test_weights_that_are_no_numbers_are_refused(make_model: Make) -> None:
    folder = make_model()
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2:] = b"\xc0\x7f"
    path.write_bytes(data)
    with (
        open_checkpoint(folder) as checkpoint,
        pytest.raises(DamagedError, match=r"lm_head\.weight holds values that are not finite"),
    ):
        checkpoint.read("lm_head.weight")
