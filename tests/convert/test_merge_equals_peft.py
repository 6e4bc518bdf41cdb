"""The merge against PEFT's own, on real tiny models with random adapters of every kind.

Both sum in fp32 and round once to bf16, so both must give the same bits, but for one thing: two
fp32 products of the same numbers may differ in their last bit, because libraries add in different
orders. Where the exact sum lies within that last bit of the middle between two bf16 numbers,
either of them is right. So every bit that differs is held against the same merge made in fp64.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.dtypes import decode
from convert.merge import merged
from convert.model_folder import read_json
from convert.shards import write_companions, write_weights
from tests.convert.making import small_adapter, write_safetensors

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
peft = pytest.importorskip("peft", reason="PEFT is not installed (make test installs it)")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT and transformers warn of themselves

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LAST_BIT = 1e-7
"""Of fp32 sums whose terms are of the order of 0.1 to 1."""

FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "power-of-two scale": {"lora_alpha": 16},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"q_proj": 3, r"layers\.1\.mlp\.down_proj": 16},
        "alpha_pattern": {"v_proj": 5, r"layers\.0\..*up_proj": 40},
    },
    "dora": {"use_dora": True},
    "dora and rslora": {"use_dora": True, "use_rslora": True},
    "modules_to_save": {"modules_to_save": ["lm_head", "norm"]},
    "bias": {"bias": "all"},
    "only two": {"target_modules": ["q_proj", "v_proj"]},
}


def randomised(model: Any) -> None:
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        if "magnitude" in name:
            parameter.data *= (1 + 0.1 * noise).to(parameter.dtype)
        elif "lora_" in name:
            parameter.data = (0.1 * noise).to(parameter.dtype)
        elif "modules_to_save" in name or (parameter.requires_grad and name.endswith("bias")):
            parameter.data = (parameter.data + 0.1 * noise).to(parameter.dtype)


def load(base: Path, dtype: Any = None) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(base, dtype=dtype or torch.bfloat16)


def adapter_for(base: Path, folder: Path, options: dict[str, Any], *, safe: bool = True) -> Path:
    config = peft.LoraConfig(
        **{"r": 8, "lora_alpha": 12, "target_modules": LINEARS, "task_type": "CAUSAL_LM"} | options
    )
    model = peft.get_peft_model(load(base), config)
    randomised(model)
    model.save_pretrained(folder, safe_serialization=safe)
    return folder


def of_peft(base: Path, adapter: Path, dtype: Any) -> dict[str, Any]:
    model = peft.PeftModel.from_pretrained(load(base, dtype), adapter)
    if dtype is torch.float64:
        model = model.double()
    return model.merge_and_unload().state_dict()


def of_hanlin(base: Path, adapter: Path, out: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    out.mkdir()
    with merged(base, adapter) as (source, config):
        write_companions(base, out, config)
        write_weights(source, out, limit=200_000, advance=lambda n: None)
    tensors: dict[str, Any] = {}
    for path in out.glob("*.safetensors"):
        tensors |= load_file(path)
    return tensors


def numbers(tensor: Any) -> np.ndarray:
    return tensor.detach().double().numpy()


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any], exact: dict[str, Any]) -> None:
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert tensor.dtype == torch.bfloat16, name
        mine, other = numbers(tensor), numbers(theirs[name].to(torch.bfloat16))
        differs = mine != other
        middle = ((mine + other) / 2)[differs]
        distance = np.abs(middle - numbers(exact[name])[differs])
        assert distance.max(initial=0) < LAST_BIT, name
        assert differs.mean() < 1e-3, name


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("model", ["tiny-llama", "tiny-qwen2"])
def test_every_kind_of_lora(models: Path, tmp_path: Path, model: str, feature: str) -> None:
    base = models / model
    adapter = adapter_for(base, tmp_path / "adapter", FEATURES[feature])
    ours = of_hanlin(base, adapter, tmp_path / "out")
    theirs = of_peft(base, adapter, torch.bfloat16)
    assert_equal(ours, theirs, of_peft(base, adapter, torch.float64))


def test_lora_on_linears_of_a_tied_model_leaves_it_tied(models: Path, tmp_path: Path) -> None:
    base = models / "tiny-qwen2-tied"
    adapter = adapter_for(base, tmp_path / "adapter", {})
    ours = of_hanlin(base, adapter, tmp_path / "out")
    theirs = of_peft(base, adapter, torch.bfloat16)
    theirs.pop("lm_head.weight")
    assert_equal(ours, theirs, of_peft(base, adapter, torch.float64))
    assert read_json(tmp_path / "out" / "config.json")["tie_word_embeddings"] is True


def test_a_bias_of_lora_b(models: Path, tmp_path: Path) -> None:
    base = models / "tiny-qwen2"
    options = {"lora_bias": True, "target_modules": ["q_proj", "v_proj"]}
    adapter = adapter_for(base, tmp_path / "adapter", options)
    ours = of_hanlin(base, adapter, tmp_path / "out")
    theirs = of_peft(base, adapter, torch.bfloat16)
    assert_equal(ours, theirs, of_peft(base, adapter, torch.float64))


def test_an_adapter_saved_as_a_torch_archive(models: Path, tmp_path: Path) -> None:
    base = models / "tiny-llama"
    as_bin = adapter_for(base, tmp_path / "bin", {"use_dora": True}, safe=False)
    as_safetensors = adapter_for(base, tmp_path / "safe", {"use_dora": True})
    assert (as_bin / "adapter_model.bin").exists()
    ours = of_hanlin(base, as_bin, tmp_path / "a")
    same = of_hanlin(base, as_safetensors, tmp_path / "b")
    assert all(torch.equal(ours[name], same[name]) for name in same)


def rounds_right(ours: Any, exact: Any) -> bool:
    """Nowhere further from the exact value than half a step of bf16 (and fp32's last bit)."""
    mine, truth = numbers(ours), numbers(exact)
    step = np.exp2(np.floor(np.log2(np.abs(truth) + 1e-30)) - 7)
    return bool((np.abs(mine - truth) <= step / 2 + LAST_BIT).all())


def test_lora_on_embeddings_is_rounded_once(models: Path, tmp_path: Path) -> None:
    """PEFT rounds the product to bf16 before it adds it; the exact sum is the judge here."""
    base = models / "tiny-llama"
    options = {"target_modules": ["embed_tokens", "q_proj"]}
    adapter = adapter_for(base, tmp_path / "adapter", options)
    ours = of_hanlin(base, adapter, tmp_path / "out")
    exact = of_peft(base, adapter, torch.float64)
    assert set(ours) == set(exact)
    assert all(rounds_right(ours[name], exact[name]) for name in exact)


TIED: dict[str, dict[str, Any]] = {
    "modules_to_save lm_head": {"modules_to_save": ["lm_head"]},
    "modules_to_save embed_tokens": {"modules_to_save": ["embed_tokens"]},
    "lora on lm_head": {"target_modules": [*LINEARS, "lm_head"]},
    "lora on embed_tokens": {"target_modules": [*LINEARS, "embed_tokens"]},
}


@pytest.mark.parametrize("case", TIED)
def test_tied_embeddings_touched_by_the_adapter(models: Path, tmp_path: Path, case: str) -> None:
    """What PEFT writes here is wrong once it is read again; the fp64 model that is not merged is
    the judge, by its logits and by the weights that give them."""
    base = models / "tiny-qwen2-tied"
    adapter = adapter_for(base, tmp_path / "adapter", TIED[case])
    ours = of_hanlin(base, adapter, tmp_path / "out")
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= set(ours)
    assert read_json(tmp_path / "out" / "config.json")["tie_word_embeddings"] is False

    ids = torch.arange(40).reshape(1, -1)
    truth = peft.PeftModel.from_pretrained(load(base, torch.float64), adapter).double().eval()
    reread = load(tmp_path / "out", torch.float64).eval()
    with torch.no_grad():
        expected, got = truth(ids).logits, reread(ids).logits
    assert (expected - got).abs().max() < 0.05 * expected.abs().max()
    original = numbers(load(base).model.embed_tokens.weight)
    touched = "lm_head.weight" if "lm_head" in case else "model.embed_tokens.weight"
    other = ({"model.embed_tokens.weight", "lm_head.weight"} - {touched}).pop()
    assert np.array_equal(numbers(ours[other]), original)
    assert not np.array_equal(numbers(ours[touched]), original)


def gpt2(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=64, vocab_size=128, n_positions=64, tie_word_embeddings=False
    )
    transformers.GPT2LMHeadModel(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dora", [False, True])
def test_fan_in_fan_out(tmp_path: Path, dora: bool) -> None:
    base = gpt2(tmp_path / "gpt2")
    options = {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}
    adapter = adapter_for(base, tmp_path / "adapter", options | {"use_dora": dora})
    ours = of_hanlin(base, adapter, tmp_path / "out")
    theirs, exact = (of_peft(base, adapter, d) for d in (torch.bfloat16, torch.float64))
    assert_equal(ours, {name: theirs[name] for name in ours}, exact)


def test_fused_wqkv(models: Path, tmp_path: Path) -> None:
    """InternLM2 keeps q, k and v in one matrix; to an adapter that is one linear layer."""
    base = models / "tiny-internlm2"
    module = "model.layers.1.attention.wqkv"
    random = np.random.default_rng(3)
    with merged(base, None) as (plain, _):
        info = plain.infos[f"{module}.weight"]
        before = decode(plain.read(info.name, 0, info.rows), info.dtype)
    a = random.standard_normal((4, info.shape[1]), np.float32)
    b = random.standard_normal((info.rows, 4), np.float32)
    adapter = small_adapter(tmp_path / "adapter")
    keys = [f"base_model.model.{module}.lora_{factor}.weight" for factor in "AB"]
    write_safetensors(
        adapter / "adapter_model.safetensors", dict(zip(keys, (a, b), strict=True)), "F32"
    )
    ours = of_hanlin(base, adapter, tmp_path / "out")
    exact = before.astype(np.float64) + 1.5 * (b.astype(np.float64) @ a)
    assert rounds_right(ours[info.name], torch.from_numpy(exact))
