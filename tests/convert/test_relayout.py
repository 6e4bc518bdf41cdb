"""Retired architectures in a living layout: the same logits, the same token ids, the same turns."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from transformers import AutoModelForCausalLM  # noqa: E402

from convert.errors import DamagedError, UnsupportedError  # noqa: E402
from convert.relayout import layout_of  # noqa: E402
from convert.run import plans  # noqa: E402
from convert.verify import verify  # noqa: E402
from tests.convert import made_retired as made  # noqa: E402
from tests.convert.made_checkpoints import CONFIG, xtuner_file  # noqa: E402
from tests.convert.made_retired import BYTES, refused, workspace  # noqa: E402
from tests.convert.making import house  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # transformers warns of itself
    pytest.mark.usefixtures("any_model"),
]

LMDEPLOY = os.environ.get("HANLIN_LMDEPLOY_PYTHON")


def logits(folder: Path, ids: Any) -> Any:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(ids[None]).logits[0]


def close(found: Any, expected: Any) -> None:
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()


def some_ids(length: int) -> Any:
    return torch.randint(3, made.VOCAB, (length,), generator=torch.Generator().manual_seed(1))


def test_internlm_computes_the_same(tmp_path: Path) -> None:
    folder = workspace(tmp_path, made.internlm_folder(tmp_path / "base"))
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["attention_bias"] is True
    ids = some_ids(40)
    close(logits(folder, ids), made.internlm(made.internlm_weights(), ids))


@pytest.mark.parametrize("length", [made.LONGEST, 2 * made.LONGEST + 5])
def test_internlm_with_stretched_positions(tmp_path: Path, length: int) -> None:
    base = made.internlm_folder(tmp_path / "base", rotary={"base": 10000, "type": "dynamic"})
    ids = some_ids(length)
    expected = made.internlm(made.internlm_weights(), ids, dynamic=True)
    close(logits(workspace(tmp_path, base), ids), expected)


def test_internlm_without_biases(tmp_path: Path) -> None:
    base = made.internlm_folder(tmp_path / "base", bias=False)
    weights = {n: t for n, t in made.internlm_weights().items() if not n.endswith(".bias")}
    for shard in base.glob("*.bin"):
        torch.save({n: t for n, t in torch.load(shard).items() if n in weights}, shard)
    where = json.loads((base / "pytorch_model.bin.index.json").read_text())["weight_map"]
    kept = {name: file for name, file in where.items() if name in weights}
    (base / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": kept}))
    ids = some_ids(20)
    folder = workspace(tmp_path, base)
    close(logits(folder, ids), made.internlm(weights, ids))
    assert json.loads((folder / "config.json").read_text())["attention_bias"] is False


def tuned(weights: made.Weights, prefix: str, modules: list[str]) -> tuple[Any, made.Weights]:
    """An XTuner LoRA on these modules, and the weights with it added."""
    state, added = {}, dict(weights)
    for module in modules:
        rows, columns = weights[f"{module}.weight"].shape
        a, b = torch.randn(4, columns) / 8, torch.randn(rows, 4) / 8
        state[f"{prefix}{module}.lora_A.default.weight"] = a
        state[f"{prefix}{module}.lora_B.default.weight"] = b
        added[f"{module}.weight"] = weights[f"{module}.weight"] + 2 * b @ a
    return state, added


def test_a_fine_tune_of_internlm(tmp_path: Path) -> None:
    """From XTuner's `.pth` on a retired base to a workspace, in one command."""
    at = "model.layers.1"
    modules = [f"{at}.self_attn.{part}_proj" for part in "qkvo"]
    modules += [f"{at}.mlp.{part}_proj" for part in ("gate", "up", "down")]
    state, weights = tuned(made.internlm_weights(), "llm.base_model.model.", modules)
    checkpoint = xtuner_file(tmp_path / "work" / "iter_8.pth", state, CONFIG)
    base = made.internlm_folder(tmp_path / "base")
    folder = workspace(tmp_path, base, checkpoint)
    ids = some_ids(30)
    close(logits(folder, ids), made.internlm(weights, ids))
    digests = json.loads((folder / "manifest.json").read_text())["digests"]
    assert list(digests) == ["adapter", "merge", "relayout", "assemble"]


def test_the_plan_says_why(tmp_path: Path) -> None:
    made_house = house(tmp_path / "a", base=str(made.internlm_folder(tmp_path / "base")))
    (plan,) = plans(made_house, engine="turbomind", workspaces=tmp_path / "w")
    (step,) = [step for step in plan.steps if step.verb == "relayout"]
    assert "InternLM v1 as Llama with attention biases" in step.reason


def test_qwen_computes_the_same(tmp_path: Path) -> None:
    folder = workspace(tmp_path, made.qwen_folder(tmp_path / "base", BYTES))
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["max_position_embeddings"] == made.LONGEST
    ids = some_ids(made.LONGEST)
    close(logits(folder, ids), made.qwen(made.qwen_weights(), ids))


def test_a_fine_tune_of_qwen(tmp_path: Path) -> None:
    """Its LoRA is on the fused projection: merged there first, and cut in three afterwards."""
    at = "transformer.h.1"
    modules = [f"{at}.{part}" for part in ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2")]
    state, weights = tuned(made.qwen_weights(), "llm.base_model.model.", modules)
    checkpoint = xtuner_file(tmp_path / "iter_8.pth", state, CONFIG)
    folder = workspace(tmp_path, made.qwen_folder(tmp_path / "base", BYTES), checkpoint)
    ids = some_ids(30)
    close(logits(folder, ids), made.qwen(weights, ids))


@pytest.mark.parametrize(
    ("make", "changes", "said"),
    [
        ("qwen", {"kv_channels": 8}, "kv_channels: 8 cannot be laid out as Qwen2"),
        ("qwen", {"rotary_pct": 0.5}, "rotary_pct: 0.5"),
        ("qwen", {"no_bias": False}, "no_bias: False"),
        ("qwen", {"scale_attn_weights": False}, "scale_attn_weights: False"),
        ("internlm", {"rotary": {"type": "linear"}}, "no rule for rotary positions of linear"),
    ],
)
def test_what_cannot_be_said(tmp_path: Path, make: str, changes: dict[str, Any], said: str) -> None:
    base = made_base(tmp_path / "base", make, changes)
    refused(tmp_path, base, UnsupportedError, said)


def made_base(path: Path, make: str, changes: dict[str, Any]) -> Path:
    if make == "qwen":
        return made.qwen_folder(path, BYTES, **changes)
    return made.internlm_folder(path, **changes)


def test_a_shard_that_is_missing(tmp_path: Path) -> None:
    base = made.internlm_folder(tmp_path / "base")
    (base / "pytorch_model-00002-of-00003.bin").unlink()
    refused(tmp_path, base, DamagedError, r"names pytorch_model-00002-of-00003\.bin, but no such")


def test_the_living_are_left_alone() -> None:
    assert layout_of({"architectures": ["LlamaForCausalLM"]}) is None
    assert layout_of({}) is None


@pytest.mark.lmdeploy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("make", ["internlm", "qwen"])
def test_turbominds_own_loader_takes_it(tmp_path: Path, make: str) -> None:
    if not LMDEPLOY:
        pytest.skip("needs the real LMDeploy; name its python with HANLIN_LMDEPLOY_PYTHON")
    base = made_base(tmp_path / "base", make, {})
    report = verify(workspace(tmp_path, base), tp=2, python=Path(LMDEPLOY))
    assert report.loader is not None
    assert report.loader.error is None
    assert report.loader.left == ()
    assert report.loader.chat_template == "hf"
