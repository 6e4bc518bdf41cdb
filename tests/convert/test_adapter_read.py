"""Checkpoints become adapters and models: every tensor as it was trained, in its own format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from safetensors.torch import load_file, save_file  # noqa: E402

from convert.checkpoint import convert_adapter  # noqa: E402
from convert.merge.adapter import open_adapter  # noqa: E402
from convert.merged_folder import merge  # noqa: E402
from tests.convert.made_checkpoints import (  # noqa: E402
    CONFIG,
    config_of,
    loaded,
    lora_state,
    peft,
    same,
    tensors,
    xtuner_file,
    zero3,
)


@pytest.fixture
def real(shared: Path) -> Path:
    """Checkpoints that XTuner 0.2.0 itself has written."""
    return shared / "data" / "xtuner"


@pytest.mark.parametrize("model", ["qwen2", "internlm2"])
def test_a_real_lora(real: Path, tmp_path: Path, model: str) -> None:
    checkpoint = real / f"xtuner020_{model}_lora_iter_32.pth"
    made = convert_adapter(checkpoint, tmp_path / "out")
    assert (made.kind, made.lacks, made.checkpoint) == ("adapter", None, checkpoint)
    same(tensors(made.folder), peft(loaded(checkpoint)["state_dict"]))
    config = config_of(made.folder)
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.05)
    assert (config["bias"], config["task_type"]) == ("none", "CAUSAL_LM")
    assert config["base_model_name_or_path"].endswith(f"tiny-{model}")
    modules = {
        "qwen2": "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj",
        "internlm2": "output w1 w2 w3 wo wqkv",
    }
    assert config["target_modules"] == modules[model].split()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own
def test_a_real_lora_is_what_peft_loads(real: Path, models: Path, tmp_path: Path) -> None:
    """PEFT warns of every key it misses or does not know, and warnings are errors here."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    made = convert_adapter(real / "xtuner020_qwen2_lora_iter_32.pth", tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(models / "tiny-qwen2", dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, made.folder)
    state = {n: t for n, t in tuned.state_dict().items() if "lora_" in n}
    same({n.replace(".default", ""): t for n, t in state.items()}, tensors(made.folder))


def test_a_real_lora_is_merged(real: Path, models: Path, tmp_path: Path) -> None:
    for model in ("qwen2", "internlm2"):
        adapter = tmp_path / f"{model}-adapter"
        convert_adapter(real / f"xtuner020_{model}_lora_iter_32.pth", adapter)
        assert merge(models / f"tiny-{model}", adapter, tmp_path / model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_format_is_kept(tmp_path: Path, dtype: Any) -> None:
    state = {name: tensor.to(dtype) for name, tensor in lora_state().items()}
    checkpoint = xtuner_file(tmp_path / "iter_1.pth", state)
    same(tensors(convert_adapter(checkpoint, tmp_path / "out").folder), peft(state))


def test_a_real_full_fine_tune(real: Path, models: Path, tmp_path: Path) -> None:
    checkpoint = real / "xtuner020_qwen2_full_iter_32.pth"
    made = convert_adapter(checkpoint, tmp_path / "out", base=models / "tiny-qwen2")
    assert (made.kind, made.lacks) == ("model", None)
    expected = {n.removeprefix("llm."): t for n, t in loaded(checkpoint)["state_dict"].items()}
    same(tensors(made.folder, "model.safetensors"), expected)
    config = json.loads((made.folder / "config.json").read_text())
    assert (config["torch_dtype"], config["architectures"]) == ("float32", ["Qwen2ForCausalLM"])
    assert (made.folder / "tokenizer.json").exists()


def test_a_tied_full_fine_tune(models: Path, tmp_path: Path) -> None:
    """One storage under two names stays one tensor, as the base's configuration says."""
    base = models / "tiny-qwen2-tied"
    state: dict[str, Any] = {}
    for shard in base.glob("*.safetensors"):
        state |= {f"llm.{name}": tensor + 1 for name, tensor in load_file(shard).items()}
    expected = {name.removeprefix("llm."): tensor for name, tensor in state.items()}
    state["llm.lm_head.weight"] = state["llm.model.embed_tokens.weight"]
    made = convert_adapter(xtuner_file(tmp_path / "a.pth", state, ""), tmp_path / "out", base=base)
    same(tensors(made.folder, "model.safetensors"), expected)
    assert json.loads((made.folder / "config.json").read_text())["tie_word_embeddings"] is True
    state["llm.lm_head.weight"] = state["llm.lm_head.weight"] * 2
    made = convert_adapter(xtuner_file(tmp_path / "b.pth", state, ""), tmp_path / "two", base=base)
    assert json.loads((made.folder / "config.json").read_text())["tie_word_embeddings"] is False
    assert "lm_head.weight" in tensors(made.folder, "model.safetensors")


def test_all_that_a_lora_can_bring(tmp_path: Path) -> None:
    """DoRA, patterns, embeddings, whole modules and biases, under the names PEFT saves."""
    prefix = "llm.base_model.model.model"
    state = {
        f"{prefix}.layers.0.self_attn.q_proj.lora_A.default.weight": torch.randn(4, 30),
        f"{prefix}.layers.0.self_attn.q_proj.lora_B.default.weight": torch.randn(30, 4),
        f"{prefix}.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight": torch.ones(30),
        f"{prefix}.layers.0.self_attn.q_proj.base_layer.bias": torch.randn(30),
        f"{prefix}.layers.0.mlp.up_proj.lora_A.default.weight": torch.randn(2, 30),
        f"{prefix}.layers.0.mlp.up_proj.lora_B.default.weight": torch.randn(30, 2),
        f"{prefix}.embed_tokens.lora_embedding_A.default": torch.randn(4, 50),
        f"{prefix}.embed_tokens.lora_embedding_B.default": torch.randn(30, 4),
        "llm.base_model.model.lm_head.modules_to_save.default.weight": torch.randn(50, 30),
    }
    config = CONFIG.replace(
        "lora_dropout=0.1",
        "use_dora=True, use_rslora=True, bias='all', rank_pattern={'up_proj': 2}, "
        "alpha_pattern={'up_proj': 1}, modules_to_save=['lm_head']",
    )
    made = convert_adapter(xtuner_file(tmp_path / "a.pth", state, config), tmp_path / "out")
    said = config_of(made.folder)
    assert (said["use_dora"], said["use_rslora"], said["bias"]) == (True, True, "all")
    assert (said["rank_pattern"], said["modules_to_save"]) == ({"up_proj": 2}, ["lm_head"])
    assert said["target_modules"] == ["embed_tokens", "q_proj", "up_proj"]
    found = tensors(made.folder)
    assert "base_model.model.lm_head.weight" in found
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector" in found
    assert "base_model.model.model.embed_tokens.lora_embedding_A" in found
    with open_adapter(made.folder) as adapter:
        assert {piece.part for piece in adapter.pieces} == {"a", "b", "magnitude", "whole"}


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_peft_folder_in_either_serialisation(tmp_path: Path, kind: str) -> None:
    state = {name: tensor.half() for name, tensor in peft(lora_state()).items()}
    folder = tmp_path / "peft"
    folder.mkdir()
    said = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    if kind == "bin":
        torch.save(state, folder / "adapter_model.bin")
    else:
        save_file(state, folder / "adapter_model.safetensors")
    made = convert_adapter(folder, tmp_path / "out")
    same(tensors(made.folder), state)
    assert config_of(made.folder) == said


def test_the_newest_of_a_folder_is_taken_by_step(tmp_path: Path) -> None:
    for step in (90, 100, 8):
        state = lora_state(seed=step)
        xtuner_file(tmp_path / "work" / f"iter_{step}.pth", state)
    zero3(tmp_path / "work" / "iter_20.pth", lora_state(seed=20), 2)
    (tmp_path / "work" / "last_checkpoint").write_text("/moved/since/iter_8.pth")
    made = convert_adapter(tmp_path / "work", tmp_path / "out")
    assert made.checkpoint.name == "iter_100.pth"
    same(tensors(made.folder), peft(lora_state(seed=100)))
    made = convert_adapter(tmp_path / "work" / "iter_20.pth", tmp_path / "named")
    same(tensors(made.folder), peft(lora_state(seed=20)))


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    class Watching:
        total = done = 0

        def task(self, label: str, total_bytes: int | None) -> Watching:
            self.total += total_bytes or 0
            return self

        def advance(self, n: int) -> None:
            self.done += n

    watching = Watching()
    convert_adapter(xtuner_file(tmp_path / "a.pth", lora_state()), tmp_path / "out", watching)
    assert watching.done == watching.total == sum(t.nbytes for t in lora_state().values())


def test_a_folder_copied_from_another_machine(real: Path, tmp_path: Path) -> None:
    """Nothing in the checkpoint's own paths is followed."""
    shutil.copytree(real / "ds_zero3_iter_32.pth", tmp_path / "there" / "iter_32.pth")
    assert convert_adapter(tmp_path / "there", tmp_path / "out").kind == "adapter"
