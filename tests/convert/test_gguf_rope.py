"""Stretched positions in llama.cpp: what transformers computes, beyond the original context too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gguf import GGUFReader

from convert.errors import UnsupportedError
from convert.gguf.file import opened_gguf
from convert.gguf.rope import DIVISORS, context_of, divisors, rope_of
from tests.convert.making import llama
from tests.convert.test_gguf import ids_of_llama, written
from tests.convert.test_gguf_layouts import greedy, greedy_of_llama, random_model

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of itself

ORIGINAL = 64
LONG = [3 + 7 * i * i % 500 for i in range(5 * ORIGINAL)]
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": ORIGINAL}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": ORIGINAL,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 8.0}
STRETCHED = [
    ("Llama", LLAMA3),
    ("Llama", LLAMA3 | {"factor": 32.0, "low_freq_factor": 0.5, "high_freq_factor": 2.0}),
    ("Llama", YARN),
    ("Llama", YARN | {"mscale": 0.5, "mscale_all_dim": 0.9}),
    ("Qwen2", YARN),
    ("Qwen2", LINEAR),
    ("Qwen3", YARN | {"attention_factor": 0.8}),
    ("Qwen3", LINEAR),
]


def likely(client: httpx.Client, ids: list[int]) -> dict[int, float]:
    """What llama.cpp thinks comes next: the most likely tokens, and how likely."""
    letter = ids_of_llama(client, "a")  # of half a letter the server tells no likelihoods
    wish = {"prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": 20, "cache_prompt": False,
            "logit_bias": [[letter[0], 1e6]]}  # fmt: skip
    answer = client.post("/completion", json=wish).json()
    first = answer["completion_probabilities"][0]
    return {found["id"]: found["logprob"] for found in first["top_logprobs"]}


@pytest.mark.parametrize(("kind", "scaling"), STRETCHED)
def test_positions_beyond_the_original_context(
    models: Path, tmp_path: Path, kind: str, scaling: dict[str, Any]
) -> None:
    rope = {"rope_theta": 10000.0, **scaling}
    base = random_model(kind, models / "tiny-qwen2", tmp_path / "base", rope_parameters=rope)
    reference = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    plain = random_model(kind, models / "tiny-qwen2", tmp_path / "plain")
    other = transformers.AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32).eval()
    with llama(written(base, tmp_path / "x.gguf", "f32")) as client:
        for ids in (LONG[: ORIGINAL // 2], LONG):
            expected = log_likelihoods(reference, ids)
            for token, found in likely(client, ids).items():
                assert abs(found - expected[token]) < 2e-3, (token, found, expected[token])
            assert greedy_of_llama(client, ids, 8) == greedy(reference, ids, 8)
        assert np.abs(log_likelihoods(other, LONG) - expected).max() > 0.5  # it matters


def log_likelihoods(model: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1).numpy()


@pytest.mark.parametrize("scaling", [LLAMA3, YARN, LINEAR, None])
def test_there_and_back_again(models: Path, tmp_path: Path, scaling: dict[str, Any] | None) -> None:
    """A GGUF base with stretched positions makes the same file again."""
    rope = {"rope_theta": 10000.0, **(scaling or {"rope_type": "default"})}
    base = random_model("Llama", models / "tiny-qwen2", tmp_path / "base", rope_parameters=rope)
    first = written(base, tmp_path / "first.gguf", "f32")
    second = written(first, tmp_path / "second.gguf", "f32")
    fields = [
        {n: f.contents() for n, f in GGUFReader(path).fields.items() if ".rope." in n}
        for path in (first, second)
    ]
    assert fields[0] == fields[1]
    with opened_gguf(first) as file:
        said = file.config.get("rope_scaling")
    for key, value in (scaling or {}).items():
        assert said is not None
        assert said[key.replace("rope_type", "type")] == value
    tensors = [{t.name: t.data.tobytes() for t in GGUFReader(p).tensors} for p in (first, second)]
    assert tensors[0] == tensors[1]
    assert (DIVISORS in tensors[0]) == (scaling == LLAMA3)


def test_other_divisors_in_a_file_are_refused(models: Path, tmp_path: Path) -> None:
    rope = {"rope_theta": 10000.0, **LLAMA3, "high_freq_factor": 3.0}
    base = random_model("Llama", models / "tiny-qwen2", tmp_path / "base", rope_parameters=rope)
    with pytest.raises(UnsupportedError, match=r"rope_freqs\.weight are not those of Llama 3\.1"):
        written(written(base, tmp_path / "x.gguf", "f32"), tmp_path / "y.gguf", "f32")


def test_divisors_of_llama_3_1_are_transformers_own() -> None:
    rope = {"rope_theta": 500000.0, **LLAMA3, "original_max_position_embeddings": 8192}
    config = transformers.LlamaConfig(
        hidden_size=512, num_attention_heads=4, max_position_embeddings=131072, rope_parameters=rope
    )
    scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config)
    plain = 1 / 500000.0 ** (np.arange(0, 128, 2) / 128)
    ours = divisors(rope, 500000.0, 128, 8192)
    assert np.allclose(plain / ours, scaled.numpy(), rtol=1e-5)
    assert set(ours[:10]) == {1.0}
    assert ours[-1] == 8.0


def test_qwen_asks_for_yarn_without_saying_how_long() -> None:
    """As Qwen2.5's documentation tells people to."""
    config = {
        "max_position_embeddings": 32768,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    }
    assert context_of(config, rope_of(config, 128)) == 131072
    assert (
        context_of(config | {"max_position_embeddings": 200_000}, rope_of(config, 128)) == 200_000
    )
    del config["rope_scaling"]
    assert context_of(config, rope_of(config, 128)) == 32768


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({"type": "longrope", "factor": 4}, "'longrope', for which there is no rule"),
        ({"type": "su"}, "'su'.*known: default, dynamic, linear, llama3, yarn"),
        (YARN | {"truncate": False}, "'yarn' with truncate: False"),
        (YARN | {"beta_fast": 16}, "'yarn' with beta_fast: 16, which llama.cpp"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "in only 0.5 of each head"),
    ],
)
def test_other_ways_are_refused_by_name(scaling: dict[str, Any], said: str) -> None:
    config = {"max_position_embeddings": 512, "rope_scaling": scaling}
    with pytest.raises(UnsupportedError, match=said):
        rope_of(config, 32)


def test_only_llama_takes_divisors(models: Path, tmp_path: Path) -> None:
    base = random_model("Qwen2", models / "tiny-qwen2", tmp_path / "base")
    path = base / "config.json"
    config = json.loads(path.read_text()) | {"rope_parameters": {"rope_theta": 1e4, **LLAMA3}}
    path.write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=r"'llama3', which llama\.cpp does for Llama only"):
        written(base, tmp_path / "x.gguf", "f32")
