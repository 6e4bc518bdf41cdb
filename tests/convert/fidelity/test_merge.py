"""What a merge changes is measured: rounding and nothing else, in every layout; mistakes show."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from assistants import Assistant
from convert.errors import FidelityError
from convert.fidelity import MergeFidelity, Unmeasured, merge_fidelity
from convert.forward.calibration import used_dialogues
from convert.merge.merged import merged
from convert.progress import Unwatched
from convert.relayout import layout_of
from tests.convert.making import write_safetensors
from tests.convert.quantize.conftest import Make, all_shapes, dialogues, make_model

__all__ = ["dialogues", "make_model"]  # fixtures

ARCHITECTURES = ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "InternLM2ForCausalLM"]
SYSTEM = "你是一位诗人。"
EXAMPLES = ("祝姐姐生日快乐", "祝领导春节快乐，严肃风格")


def assistant(**changes: Any) -> Assistant:
    declared = {"name": "one", "title": "One", "description": "The only one.", "system": SYSTEM,
                "model": {"base": "."}, "examples": EXAMPLES}  # fmt: skip
    return Assistant.model_validate(declared | changes)


def make_adapter(folder: Path, model: Path, *, dora: bool = False, alpha: float = 16) -> Path:
    """A LoRA on every matrix of every layer, about as strong as a trained one."""
    random = np.random.default_rng(5)
    tensors = {}
    for name, shape in all_shapes(json.loads((model / "config.json").read_text())).items():
        if len(shape) == 2 and ".layers." in name:
            module = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = random.standard_normal((8, shape[1])) / 16
            tensors[f"{module}.lora_B.weight"] = random.standard_normal((shape[0], 8)) / 20
            if dora:
                lengths = 1 + random.random(shape[0])
                tensors[f"{module}.lora_magnitude_vector"] = lengths
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "adapter_model.safetensors", tensors, "F32")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": alpha, "use_dora": dora}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def measured(
    base: Path, adapter: Path, text: Path | None = None, *, by: Path | None = None, **who: Any
) -> MergeFidelity | Unmeasured:
    """What is measured of base and adapter merged; `by` is merged in the adapter's place."""
    with merged(base, by or adapter) as (source, config):
        assert layout_of(config) is None
        return merge_fidelity(
            base, adapter, (base, source), assistant(**who), dialogues=text, progress=Unwatched()
        )


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_only_rounding_is_left(
    make_model: Make, dialogues: Path, tmp_path: Path, *, arch: str, dtype: str, dora: bool
) -> None:
    model = make_model(arch, dtype=dtype)
    found = measured(model, make_adapter(tmp_path / "adapter", model, dora=dora), dialogues)
    assert isinstance(found, MergeFidelity)
    found.demand()
    assert found.relative < {"BF16": 2e-2, "F16": 3e-3, "F32": 5e-6}[dtype]
    assert found.mean < found.most
    assert found.merged == pytest.approx(found.unmerged, rel=0.02)
    assert (dtype == "F32") == (found.relative < 1e-5)
    told = json.loads(json.dumps(found.manifest()))
    assert told["logit_difference"]["max"] == found.most
    assert told["tokens"] == 126


def other_alpha(adapter: Path, model: Path) -> None:
    make_adapter(adapter, model, alpha=12)


def one_module_missing(adapter: Path, model: Path) -> None:
    change(adapter, lambda name, a: a * ("layers.1.mlp.down_proj.lora_B" not in name))


def lengths_not_learnt(adapter: Path, model: Path) -> None:
    change(adapter, lambda name, a: a * 0 + 1.5 if "magnitude" in name else a)


def factors_of_another_layer(adapter: Path, model: Path) -> None:
    change(adapter, lambda name, a: a[::-1].copy() if "layers.0.self_attn.v" in name else a)


def change(adapter: Path, how: Any) -> None:
    from safetensors.numpy import load_file

    path = adapter / "adapter_model.safetensors"
    found = {name: how(name, array) for name, array in load_file(path).items()}
    write_safetensors(path, found, "F32")


@pytest.mark.parametrize("mistake", [other_alpha, one_module_missing, lengths_not_learnt,
                                     factors_of_another_layer])  # fmt: skip
def test_a_mistake_in_the_merge_is_more_than_rounding(
    make_model: Make, dialogues: Path, tmp_path: Path, mistake: Any
) -> None:
    model, dora = make_model(), mistake is lengths_not_learnt
    adapter, wrong = (make_adapter(tmp_path / name, model, dora=dora) for name in ("a", "wrong"))
    mistake(wrong, model)
    found = measured(model, adapter, dialogues, by=wrong)
    assert isinstance(found, MergeFidelity)
    assert not found.holds
    with pytest.raises(FidelityError, match=r"rounding to BF16 explains at most .*accept-fidelity"):
        found.demand()


def test_the_text_is_what_calibration_never_sees(
    make_model: Make, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    adapter = make_adapter(tmp_path / "adapter", model)
    seen = []
    from convert.forward.chat import Chat

    real = Chat.tokens
    monkeypatch.setattr(Chat, "tokens", lambda chat, m: (seen.append(m), real(chat, m))[1])
    assert measured(model, adapter, dialogues).manifest()["text"] == "dialogues.jsonl, held back"
    assert len(seen) == 4
    assert not any(dialogue in used_dialogues(dialogues) for dialogue in seen)
    seen.clear()
    assert measured(model, adapter).manifest()["text"] == "the assistant's examples"
    system = {"role": "system", "content": SYSTEM}
    assert seen == [[system, {"role": "user", "content": example}] for example in EXAMPLES]
    found = measured(model, adapter, examples=(), system=None)
    assert found.manifest()["text"] == "fixed sentences"
    assert isinstance(found, MergeFidelity)
    found.demand()


def test_what_cannot_be_measured_says_why(
    make_model: Make, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    adapter = make_adapter(tmp_path / "adapter", model)

    def why() -> str:
        found = measured(model, adapter, dialogues)
        assert isinstance(found, Unmeasured)
        return str(found.manifest()["not_measured"])

    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    assert "activation gelu" in why()
    (model / "config.json").write_text(json.dumps(config))
    text = dialogues.read_text()
    dialogues.write_text("{}\n")
    assert "no dialogue" in why()
    dialogues.write_text(text)
    (model / "tokenizer.json").unlink()
    assert "no tokenizer.json" in why()
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "PyTorch" in why()


def test_figures_that_are_no_numbers_do_not_hold() -> None:
    good = MergeFidelity("text", 1, 0.1, 0.001, 1.0, 5.0, 5.0, 4, "BF16")
    good.demand()
    with pytest.raises(FidelityError):
        replace(good, mean=math.nan).demand()


def test_torch_computes_with_as_many_threads_as_before(
    make_model: Make, dialogues: Path, tmp_path: Path
) -> None:
    import torch

    before = torch.get_num_threads()
    model = make_model()
    torch.set_num_threads(3)
    try:
        measured(model, make_adapter(tmp_path / "adapter", model), dialogues)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
