"""XTuner 0.2.0's `xtuner convert` against `hanlin`: equal sums, and where the two part.

Each difference that docs/xtuner.md names is shown by the real tool here; when a release of XTuner
mends one, its test fails and the page must follow.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from safetensors.torch import load_file, save_file  # noqa: E402

from convert.checkpoint import convert_adapter  # noqa: E402
from tests.convert.making import MINI, ROOT  # noqa: E402
from tests.convert.xtuner_process import (  # noqa: E402
    Done,
    merge,
    models_for_xtuner,
    needs_xtuner,
    pth_to_hf,
    xtuner,
)

pytestmark = [pytest.mark.xtuner, needs_xtuner, pytest.mark.timeout(600)]

WISHES = ROOT / "assistants" / "adapters" / "wishes"
OF_SHARED = {
    "tiny-qwen2": "xtuner020_qwen2_lora_iter_32.pth",
    "tiny-internlm2": "xtuner020_internlm2_lora_iter_32.pth",
}
HALF_A_STEP = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""The most that rounding changes a number, as a part of it."""
SMALLEST = 2.0**-24
"""Fp16's own: numbers near it lose more than a part of themselves."""

CONFIG = """
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from xtuner.model import SupervisedFinetune
model = dict(
    type=SupervisedFinetune,
    llm=dict(type=AutoModelForCausalLM.from_pretrained, pretrained_model_name_or_path={base!r}),
    lora=dict(type=LoraConfig, r=4, lora_alpha=8, task_type="CAUSAL_LM"))
"""


def hanlin(*arguments: object) -> Done:
    command = [sys.executable, "-m", "hanlin", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def merged(folder: Path, base: Path, adapter: Path, *options: str) -> tuple[Path, Path]:
    """The same merge by both: XTuner's folder and ours."""
    theirs, ours = folder / "theirs", folder / "ours"
    done = merge(folder, base, adapter, theirs, *options)
    assert (theirs / "config.json").exists(), done.stderr[-2000:]
    done = hanlin("merge", base, adapter, ours)
    assert done.returncode == 0, done.stderr
    return theirs, ours


@pytest.fixture(scope="module")
def of_wishes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The shipped bf16 base with a shipped adapter, merged by both with no option."""
    return merged(tmp_path_factory.mktemp("wishes"), MINI, WISHES)


def weights(folder: Path) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)
    for path in folder.glob("*.bin"):
        tensors |= torch.load(path, weights_only=True)
    return tensors


def settings(folder: Path, name: str = "config.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def rewritten(folder: Path, name: str, **changes: Any) -> None:
    (folder / name).write_text(json.dumps(settings(folder, name) | changes), encoding="utf-8")


def in_fp16(base: Path, folder: Path) -> Path:
    """A copy of a base whose weights are fp16, so that XTuner rounds nothing when it loads it."""
    shutil.copytree(base, folder)
    for path in folder.glob("*.safetensors"):
        tensors = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    rewritten(folder, "config.json", torch_dtype="float16")
    return folder


def base_and_adapter(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> tuple[Path, Path]:
    if name == "hanlin-mini":
        return MINI, WISHES
    shared: Path = request.getfixturevalue("shared")
    checkpoint = shared / "data" / "xtuner" / OF_SHARED[name]
    adapter = convert_adapter(checkpoint, tmp_path / "adapter").folder
    return models_for_xtuner(shared, tmp_path / "models") / name, adapter


@pytest.mark.parametrize("name", ["hanlin-mini", *OF_SHARED])
def test_the_same_bits_on_an_fp16_base(
    tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    """But for sums in the middle between two fp16 numbers, where fp32's last bit decides."""
    original, adapter = base_and_adapter(name, tmp_path, request)
    base = in_fp16(original, tmp_path / "base")
    theirs, ours = map(weights, merged(tmp_path, base, adapter, "--safe-serialization"))
    assert ours.keys() == theirs.keys()
    before, changed = weights(base), 0
    for key, tensor in ours.items():
        differs = tensor != theirs[key]
        steps = tensor.view(torch.int16)[differs] - theirs[key].view(torch.int16)[differs]
        assert steps.abs().max().item() == 1 if len(steps) else True, key
        assert differs.float().mean() < 1e-4, key
        changed += not torch.equal(tensor, before[key])
    assert changed >= 7  # projections of at least one layer


def test_theirs_is_fp16_in_a_pickle_whatever_the_base_is(of_wishes: tuple[Path, Path]) -> None:
    theirs, ours = of_wishes
    assert [path.name for path in theirs.glob("*model*")] == ["pytorch_model.bin"]
    assert [path.name for path in ours.glob("*model*")] == ["model.safetensors"]
    assert settings(MINI)["torch_dtype"] == settings(ours)["torch_dtype"] == "bfloat16"
    assert settings(theirs)["torch_dtype"] == "float16"
    found, expected, base = weights(ours), weights(theirs), weights(MINI)
    assert expected.keys() - found.keys() <= {"lm_head.weight"}  # in a pickle, tied ones twice
    for key, tensor in found.items():
        assert (tensor.dtype, expected[key].dtype) == (torch.bfloat16, torch.float16)
        wide, other, was = tensor.float(), expected[key].float(), base[key].float()
        rounding = HALF_A_STEP[torch.bfloat16] * wide.abs()
        rounding += HALF_A_STEP[torch.float16] * (other.abs() + was.abs()) + SMALLEST
        assert ((wide - other).abs() <= rounding).all(), key


def test_theirs_changes_what_nobody_trained(of_wishes: tuple[Path, Path]) -> None:
    """Fp16 has no place for small bf16 numbers; the adapter does not touch the embeddings."""
    theirs, ours = (weights(folder)["model.embed_tokens.weight"] for folder in of_wishes)
    before = weights(MINI)["model.embed_tokens.weight"]
    assert torch.equal(ours, before)
    assert not torch.equal(theirs.to(torch.bfloat16), before)


def test_theirs_loses_a_trained_head_of_a_tied_model(tmp_path: Path) -> None:
    """It is written, but the configuration still says that the embeddings are used instead."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    made = torch.Generator().manual_seed(0)
    embedding = weights(MINI)["model.embed_tokens.weight"].float()
    head = embedding + 0.1 * torch.randn(embedding.shape, generator=made)
    factor = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file(
        {
            factor.format("A"): torch.randn(4, 256, generator=made) / 16,
            factor.format("B"): torch.randn(256, 4, generator=made) / 16,
            "base_model.model.lm_head.weight": head,
        },
        adapter / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8,
              "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}  # fmt: skip
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    theirs, ours = merged(tmp_path, MINI, adapter, "--safe-serialization")
    assert settings(theirs)["tie_word_embeddings"] is True
    assert settings(ours)["tie_word_embeddings"] is False
    assert torch.equal(weights(ours)["lm_head.weight"], head.to(torch.bfloat16))


def test_their_failure_ends_with_0(tmp_path: Path) -> None:
    gone, theirs, ours = (tmp_path / name for name in ("gone", "theirs", "ours"))
    done = xtuner(tmp_path, "convert", "merge", gone, WISHES, theirs)
    assert (done.returncode, theirs.exists()) == (0, False)
    assert "Traceback" in done.stderr
    done = hanlin("merge", gone, WISHES, ours)
    assert (done.returncode, ours.exists()) == (1, False)
    assert done.stderr.strip() == f"There is no folder {gone}."


class Touch:
    """What a checkpoint made by an enemy holds: reading it runs `touch`."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.mark}'",)


def checkpoint_and_config(tmp_path: Path, **more: Any) -> tuple[Path, Path]:
    config, checkpoint = tmp_path / "config.py", tmp_path / "iter_1.pth"
    config.write_text(CONFIG.format(base=str(MINI)))
    factors = torch.randn(4, 256, generator=torch.Generator().manual_seed(0))
    at = "llm.base_model.model.model.layers.0.self_attn.q_proj.lora_{}.default.weight"
    state = {at.format("A"): factors, at.format("B"): factors.T.contiguous()}
    meta = {"iter": 1, "cfg": config.read_text()}
    torch.save({"meta": meta, "state_dict": state, "message_hub": {}, **more}, checkpoint)
    return config, checkpoint


def test_their_pth_to_hf_crashes_on_a_cpu_and_ends_with_0(tmp_path: Path) -> None:
    config, checkpoint = checkpoint_and_config(tmp_path)
    done = xtuner(tmp_path, "convert", "pth_to_hf", config, checkpoint, tmp_path / "theirs")
    assert (done.returncode, (tmp_path / "theirs").exists()) == (0, False)
    assert "module 'torch.cpu' has no attribute 'is_bf16_supported'" in done.stderr
    done = hanlin("adapter", checkpoint, tmp_path / "ours")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ours" / "adapter_model.safetensors").exists()


def test_their_pth_to_hf_runs_code_in_a_checkpoint(tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    config, checkpoint = checkpoint_and_config(tmp_path, optimizer=Touch(mark))
    done = hanlin("adapter", checkpoint, tmp_path / "ours")
    assert (done.returncode, mark.exists()) == (1, False)
    assert "is refused: it asks for posix.system" in " ".join(done.stderr.split())
    done = pth_to_hf(tmp_path, config, checkpoint, tmp_path / "theirs")
    assert mark.exists(), done.stderr[-2000:]
