"""A declaration may name a training checkpoint: `hanlin convert` reads it by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from safetensors.torch import load_file  # noqa: E402

from convert.checkpoint import convert_adapter  # noqa: E402
from convert.errors import AdapterError, DamagedError, FetchError  # noqa: E402
from convert.merged_folder import merge  # noqa: E402
from convert.plan import Step, describe  # noqa: E402
from convert.run import build, plans  # noqa: E402
from hanlin.__main__ import main  # noqa: E402
from tests.convert.made_checkpoints import lora_state, xtuner_file, zero3  # noqa: E402
from tests.convert.making import MINI, house  # noqa: E402

pytestmark = pytest.mark.usefixtures("any_model")


@pytest.fixture
def real(shared: Path) -> Path:
    return shared / "data" / "xtuner"


def built(tmp_path: Path, base: Path, adapter: Path) -> Path:
    made = house(tmp_path / "assistants", base=str(base), adapter=str(adapter))
    (done,) = build(made, engine="turbomind", workspaces=tmp_path / "workspaces")
    return done.folder


def adapter_step(tmp_path: Path, base: Path, adapter: Path) -> Step:
    made = house(tmp_path / "assistants", base=str(base), adapter=str(adapter))
    (plan,) = plans(made, engine="turbomind", workspaces=tmp_path / "workspaces")
    assert "  adapter  " in describe(plan)
    return next(step for step in plan.steps if step.verb == "adapter")


def weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for shard in folder.glob("*.safetensors"):
        found |= load_file(shard)
    return found


@pytest.mark.parametrize(
    "name", ["xtuner020_qwen2_lora_iter_32.pth", "ds_zero2_iter_32.pth", "ds_zero3_iter_32.pth"]
)
def test_a_real_checkpoint_in_a_declaration(
    real: Path, models: Path, tmp_path: Path, name: str
) -> None:
    """The same weights as by hand, step by step: adapter, then merge."""
    base = models / "tiny-qwen2"
    folder = built(tmp_path, base, real / name)
    merge(base, convert_adapter(real / name, tmp_path / "adapter").folder, tmp_path / "merged")
    expected = weights(tmp_path / "merged")
    found = weights(folder)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["digests"]) == ["adapter", "merge", "assemble"]
    assert manifest["lineage"]["adapter"]["tool"].startswith("hanlin-adapter")
    assert adapter_step(tmp_path, base, real / name).built


def test_for_both_engines(tmp_path: Path) -> None:
    """The checkpoint is read once; the second engine finds the adapter there."""
    size = json.loads((MINI / "config.json").read_text())["hidden_size"]
    name = "llm.base_model.model.model.layers.0.self_attn.o_proj.lora_{}.default.weight"
    state = {name.format("A"): torch.ones(4, size), name.format("B"): torch.ones(size, 4)}
    checkpoint = xtuner_file(tmp_path / "iter_8.pth", state)
    made = house(tmp_path / "assistants", base="hanlin-mini", adapter=str(checkpoint))
    found, workspaces = [], tmp_path / "workspaces"
    for engine in ("turbomind", "llamacpp"):
        build(made, engine=engine, workspaces=workspaces)
        (adapter,) = (workspaces / ".cache" / "adapters").glob("[!.]*")
        found.append((adapter.name, adapter.stat().st_ino))
    assert found[0] == found[1]
    digests = json.loads((workspaces / "one" / "llamacpp" / "manifest.json").read_text())["digests"]
    assert list(digests) == ["adapter", "merge", "gguf", "assemble"]


def test_the_newest_in_a_folder_and_the_named_one(models: Path, tmp_path: Path) -> None:
    base, work = models / "tiny-qwen2", tmp_path / "work"
    for step in (8, 16):
        xtuner_file(work / f"iter_{step}.pth", fitting(step))
    step = adapter_step(tmp_path, base, work)
    assert step.reason == "iter_16.pth is the newest of 2 training checkpoints by step"
    newest = weights(built(tmp_path, base, work))
    assert adapter_step(tmp_path, base, work).built
    assert not adapter_step(tmp_path, base, work / "iter_8.pth").built
    named = weights(built(tmp_path, base, work / "iter_8.pth"))
    changed = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(newest[changed], named[changed])
    xtuner_file(work / "iter_24.pth", fitting(24))
    assert not adapter_step(tmp_path, base, work).built


def fitting(seed: int) -> dict[str, Any]:
    """A LoRA that fits tiny-qwen2."""
    made = torch.Generator().manual_seed(seed)
    name = "llm.base_model.model.model.layers.0.self_attn.q_proj.lora_{}.default.weight"
    return {
        name.format("A"): torch.randn(4, 128, generator=made),
        name.format("B"): torch.randn(128, 4, generator=made),
    }


def test_a_full_fine_tune_stands_in_for_its_base(real: Path, models: Path, tmp_path: Path) -> None:
    """In the base's number format, as a merge would have it, and with all that is the base's."""
    base, checkpoint = models / "tiny-qwen2", real / "xtuner020_qwen2_full_iter_32.pth"
    folder = built(tmp_path, base, checkpoint)
    trained = weights(convert_adapter(checkpoint, tmp_path / "full").folder)
    found, before = weights(folder), weights(base)
    assert found.keys() == trained.keys()
    for name, tensor in trained.items():
        assert torch.equal(found[name], tensor.to(before[name].dtype)), name
    assert (folder / "config.json").read_bytes() == (base / "config.json").read_bytes()
    assert (folder / "tokenizer.json").exists()


def test_a_checkpoint_of_another_base(models: Path, tmp_path: Path) -> None:
    checkpoint = xtuner_file(tmp_path / "iter_1.pth", lora_state())
    with pytest.raises(AdapterError, match="belongs to another base"):
        built(tmp_path, models / "tiny-qwen2", checkpoint)
    assert not (tmp_path / "workspaces" / "one" / "turbomind").exists()


def test_a_rank_that_is_missing(models: Path, tmp_path: Path) -> None:
    folder = zero3(tmp_path / "iter_8.pth", lora_state(), 2)
    (folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    with pytest.raises(DamagedError, match=r"rank_1_mp_rank_00_optim_states\.pt is missing"):
        built(tmp_path, models / "tiny-qwen2", folder)
    assert not list((tmp_path / "workspaces").glob(".cache/adapters/[!.]*"))


def test_the_command(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, out = real / "xtuner020_qwen2_lora_iter_32.pth", tmp_path / "out"
    assert main(["adapter", str(checkpoint), str(out)]) == 0
    assert f"{out} is the adapter in {checkpoint}." in capsys.readouterr().out
    assert main(["adapter", str(checkpoint), str(out)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    full = real / "xtuner020_qwen2_full_iter_32.pth"
    assert main(["adapter", str(full), str(tmp_path / "full")]) == 0
    assert "It still lacks config.json and the tokenizer" in capsys.readouterr().out
    assert main(["adapter", str(tmp_path / "none.pth"), str(tmp_path / "x")]) == 1
    assert "There is no checkpoint" in capsys.readouterr().err


def test_a_checkpoint_where_a_merge_wants_an_adapter(models: Path, tmp_path: Path) -> None:
    base = models / "tiny-qwen2"
    checkpoint = xtuner_file(tmp_path / "iter_1.pth", fitting(1))
    with pytest.raises(AdapterError, match=r"make an adapter of it first: hanlin adapter .*iter_1"):
        merge(base, checkpoint, tmp_path / "out")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FetchError, match=r"notes\.txt has no adapter_config\.json"):
        built(tmp_path, base, tmp_path / "notes.txt")
