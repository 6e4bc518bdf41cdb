"""Every kind of LoRA on every layout in every form of storage, against PEFT's own merge.

Both sum in fp32 and round once to bf16, so both must give the same bits, but for one thing: two
fp32 products of the same numbers may differ in their last bit, because libraries add in different
orders. Where the exact sum lies within that last bit of the middle between two bf16 numbers,
either of them is right. So every bit that differs is held against the same merge made in fp64.

What PEFT makes of tied embeddings that an adapter touches is wrong (it changes both, or neither).
There the reference is PEFT on the same model with an output of its own, which computes the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
peft = pytest.importorskip("peft", reason="PEFT is not installed (make test installs it)")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from convert.errors import AdapterError  # noqa: E402
from convert.merged_folder import merge  # noqa: E402
from tests.convert.made_models import MODELS, STORAGES, Model  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT and transformers warn of themselves

LAST_BIT = 1e-7
"""Of fp32 sums whose terms are of the order of 0.1 to 1."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One kind of LoRA: how PEFT is asked for it, and what is to come of it."""

    options: Callable[[Model], dict[str, Any]]
    rounded_twice: bool = False
    """By PEFT, which makes the product bf16 before it adds it: the exact sum is the only judge."""
    refused: Callable[[Model], str | None] = lambda model: None
    saved: Callable[[Model], dict[str, Any]] = lambda model: {}
    """What is changed in the saved adapter_config.json."""
    unties: bool = False


def targets(*names: str) -> Callable[[Model], dict[str, Any]]:
    """The linears, and the modules that `Model` calls so."""
    return lambda model: {"target_modules": [*model.linears, *(getattr(model, n) for n in names)]}


def patterns(model: Model) -> dict[str, Any]:
    """Whole names and paths from their end; a part of a name is nobody's."""
    first, second, *_, last = model.linears
    return {
        "rank_pattern": {first[:-1]: 2, first: 3, rf"{model.layers}\.1\..*{last}": 16},
        "alpha_pattern": {second: 5, rf"{model.layers}\.0\..*{first}": 40},
    }


FEATURES = {
    "plain": Feature(lambda model: {}),
    "power-of-two scale": Feature(lambda model: {"lora_alpha": 16}),
    "rslora": Feature(lambda model: {"use_rslora": True}),
    "dora": Feature(lambda model: {"use_dora": True}),
    "dora and rslora": Feature(lambda model: {"use_dora": True, "use_rslora": True}),
    "patterns": Feature(patterns),
    "modules_to_save": Feature(
        lambda model: {"modules_to_save": [model.norm, model.head]}, unties=True
    ),
    "modules_to_save embedding": Feature(
        lambda model: {"modules_to_save": [model.embedding]}, unties=True
    ),
    "bias all": Feature(lambda model: {"bias": "all"}),
    "bias lora_only": Feature(lambda model: {"bias": "lora_only"}),
    "lora_bias": Feature(
        lambda model: {"lora_bias": True, "target_modules": list(model.biased or model.linears)},
        refused=lambda model: None if model.biased else "it adds a bias to .*has none",
    ),
    "embedding": Feature(targets("embedding"), rounded_twice=True, unties=True),
    "embedding and dora": Feature(
        lambda model: targets("embedding")(model) | {"use_dora": True},
        rounded_twice=True,
        unties=True,
    ),
    "head": Feature(targets("head"), unties=True),
    "layers_to_transform": Feature(
        lambda model: {"layers_to_transform": [1], "layers_pattern": model.layers}
    ),
    "names by pattern": Feature(lambda model: {"target_modules": rf".*\.1\..*{model.linears[1]}"}),
    "fan_in_fan_out said wrongly": Feature(  # PEFT believes the module, not the configuration
        lambda model: {}, saved=lambda model: {"fan_in_fan_out": not model.transposed}
    ),
    "trainable tokens": Feature(
        lambda model: {"trainable_token_indices": {model.embedding: [1, 2]}},
        refused=lambda model: "trains single tokens .*cannot be merged",
    ),
    "ensure_weight_tying": Feature(
        lambda model: {"modules_to_save": [model.embedding], "ensure_weight_tying": True},
        refused=lambda model: "ties adapters of tied embeddings .*cannot be merged",
    ),
    "pissa": Feature(
        lambda model: {"init_lora_weights": "pissa_niter_1"},
        refused=lambda model: "started from pissa_niter_1, which also changed the base",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """An adapter that PEFT made, and what PEFT makes of it."""

    model: Model
    feature: Feature
    adapter: Path
    merged: dict[str, Any]
    exact: dict[str, Any]


def randomised(made: Any) -> None:
    generator = torch.Generator().manual_seed(7)
    for name, parameter in made.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
        if "magnitude" in name:
            parameter.data *= (1 + 0.1 * noise).to(parameter.dtype)
        elif "lora_" in name:
            parameter.data = (0.1 * noise).to(parameter.dtype)
        elif parameter.requires_grad:
            parameter.data = (parameter.data + 0.1 * noise).to(parameter.dtype)


def adapter_of(model: Model, feature: Feature, folder: Path) -> Path:
    options = {"r": 8, "lora_alpha": 12, "target_modules": list(model.linears)}
    made = peft.get_peft_model(model.module(), peft.LoraConfig(**options | feature.options(model)))
    randomised(made)
    made.save_pretrained(folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | feature.saved(model)))
    return folder


def of_peft(model: Model, adapter: Path, dtype: Any) -> dict[str, Any]:
    tuned = peft.PeftModel.from_pretrained(model.module(dtype, untied=True), adapter)
    state: dict[str, Any] = (
        (tuned.double() if dtype is torch.float64 else tuned).merge_and_unload().state_dict()
    )
    return state


ALL = [(model, feature) for model in MODELS for feature in FEATURES]


@pytest.fixture(scope="module", params=ALL, ids=lambda chosen: "-".join(chosen))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    model, feature = MODELS[request.param[0]], FEATURES[request.param[1]]
    adapter = adapter_of(model, feature, tmp_path_factory.mktemp("adapter"))
    if feature.refused(model):
        return Case(model, feature, adapter, {}, {})
    merged, exact = (of_peft(model, adapter, dtype) for dtype in (torch.bfloat16, torch.float64))
    return Case(model, feature, adapter, merged, exact)


def numbers(tensor: Any) -> np.ndarray:
    return tensor.detach().double().numpy()


def same_but_for_the_last_bit(ours: Any, theirs: Any, exact: Any) -> bool:
    mine, other = numbers(ours), numbers(theirs.to(torch.bfloat16))
    differs = mine != other
    distance = np.abs(((mine + other) / 2 - numbers(exact))[differs])
    return distance.max(initial=0) < LAST_BIT and differs.sum() <= max(1, mine.size // 200)


def rounds_right(ours: Any, exact: Any) -> bool:
    """Nowhere further from the exact value than half a step of bf16 (and fp32's last bit)."""
    mine, truth = numbers(ours), numbers(exact)
    step = np.exp2(np.floor(np.log2(np.abs(truth) + 1e-30)) - 7)
    return bool((np.abs(mine - truth) <= step / 2 + LAST_BIT).all())


@pytest.fixture(autouse=True)
def a_disk_that_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of merges that need not survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.mark.parametrize("storage", STORAGES)
def test_every_lora_on_every_layout(case: Case, storage: str, tmp_path: Path) -> None:
    base, out = case.model.folder(tmp_path / "base", storage), tmp_path / "out"
    if sentence := case.feature.refused(case.model):
        with pytest.raises(AdapterError, match=sentence):
            merge(base, case.adapter, out)
        assert [name for name in os.listdir(tmp_path) if name != "base"] == []
        return
    merge(base, case.adapter, out, max_shard_size=10_000)
    ours: dict[str, Any] = {}
    for path in out.glob("*.safetensors"):
        ours |= load_file(path)

    before, after = (json.loads((d / "config.json").read_text()) for d in (base, out))
    untied = case.model.tied and case.feature.unties
    assert after == (before | {"tie_word_embeddings": False} if untied else before)
    expected = dict(case.merged)
    if case.model.tied and not untied and storage != "bin":
        del expected["lm_head.weight"]  # still the embedding, and not written twice
    assert set(ours) == set(expected)
    for name, tensor in ours.items():
        assert tensor.dtype == torch.bfloat16, name
        assert rounds_right(tensor, case.exact[name]), name
        if not case.feature.rounded_twice:
            assert same_but_for_the_last_bit(tensor, expected[name], case.exact[name]), name


TIED = MODELS["Qwen2-tied"]


@pytest.mark.parametrize("feature", [name for name, f in FEATURES.items() if f.unties])
def test_untied_embeddings_compute_what_the_adapter_did(tmp_path: Path, feature: str) -> None:
    """The judge is PEFT on the tied model, not merged; the merged one is read by transformers."""
    base = TIED.folder(tmp_path / "base", "single")
    adapter = adapter_of(TIED, FEATURES[feature], tmp_path / "adapter")
    merge(base, adapter, tmp_path / "out")
    truth = peft.PeftModel.from_pretrained(TIED.module(torch.float64), adapter).double().eval()
    reread = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float64
    ).eval()
    ids = torch.arange(30).reshape(1, -1)
    with torch.no_grad():
        expected, got = truth(ids).logits, reread(ids).logits
    assert (expected - got).abs().max() < 0.03 * expected.abs().max()


def test_an_adapter_saved_as_a_torch_archive(tmp_path: Path) -> None:
    model = MODELS["InternLM2"]
    adapter = adapter_of(model, FEATURES["embedding and dora"], tmp_path / "adapter")
    base = model.folder(tmp_path / "base", "single")
    merge(base, adapter, tmp_path / "a")
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    merge(base, adapter, tmp_path / "b")
    name = "model.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
