"""Checkpoints that are refused: one sentence each, nothing run, nothing left behind."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from convert.checkpoint import convert_adapter  # noqa: E402
from convert.errors import (  # noqa: E402
    AdapterError,
    BuildError,
    ConvertError,
    DamagedError,
    UnsupportedError,
)
from tests.convert.made_checkpoints import CONFIG, lora_state, refused, xtuner_file, zero3  # noqa: E402


def test_a_truncated_file(tmp_path: Path) -> None:
    path = xtuner_file(tmp_path / "iter_1.pth", lora_state())
    path.write_bytes(path.read_bytes()[:-400])
    refused(DamagedError, r"iter_1\.pth: was cut short", path)


def test_a_file_with_a_hole(tmp_path: Path) -> None:
    """All members listed, one storage shorter than the tensor in it."""
    path = xtuner_file(tmp_path / "iter_1.pth", lora_state())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data/2"))
    members[name] = members[name][:8]
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    refused(DamagedError, "has no complete storage 2", path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "notes.pth"
    path.write_text("hello")
    refused(DamagedError, "is not a torch archive", path)
    refused(UnsupportedError, "There is no checkpoint", tmp_path / "none.pth")
    (tmp_path / "empty").mkdir()
    refused(UnsupportedError, r"is not a checkpoint: it holds no iter_N\.pth", tmp_path / "empty")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    refused(UnsupportedError, "is not a checkpoint|is a model folder", tmp_path / "model")
    torch.save([1, 2], path)
    refused(DamagedError, "holds no state dict", path)
    torch.save({"meta": {}, "state_dict": {"a": 1}}, path)
    refused(DamagedError, "holds no tensors", path)


def test_neither_lora_nor_a_whole_model(tmp_path: Path) -> None:
    path = xtuner_file(tmp_path / "a.pth", {"llm.model.norm.weight": torch.ones(3)})
    refused(UnsupportedError, r"neither LoRA .* 1 tensors such as model\.norm\.weight", path)


def test_more_than_a_language_model(tmp_path: Path) -> None:
    state = lora_state() | {"projector.model.0.weight": torch.ones(3, 3)}
    path = xtuner_file(tmp_path / "a.pth", state)
    refused(UnsupportedError, r"holds projector\.model\.0\.weight beside a language model", path)


@pytest.mark.parametrize(
    ("error", "old", "new", "said"),
    [
        (UnsupportedError, "import LoraConfig", "import LoHaConfig as LoraConfig", "peft.LoHaConf"),
        (UnsupportedError, "type=LoraConfig", "type=build(rank)", r"trained with build\(rank\)"),
        (AdapterError, "lora=dict", "other=dict", r"says nothing of them \(model\.lora\)"),
        (AdapterError, "2 * rank", "pick(rank)", r"lora_alpha is computed .*\(pick\(rank\)\)"),
        (AdapterError, "rank = 4", "rank = 8", r"q_proj has factors of rank 4, .* says 8"),
        (AdapterError, "rank = 4", "rank = []", "is computed|is not one of a LoRA"),
        (UnsupportedError, "rank = 4", "rank = = 4", "is not Python source"),
    ],
)
def test_configurations(
    tmp_path: Path, error: type[ConvertError], old: str, new: str, said: str
) -> None:
    assert old in CONFIG
    path = xtuner_file(tmp_path / "a.pth", lora_state(), CONFIG.replace(old, new))
    refused(error, said, path)


def test_a_lora_without_its_configuration(tmp_path: Path) -> None:
    path = xtuner_file(tmp_path / "a.pth", lora_state(), None)
    refused(AdapterError, "without lora_alpha they cannot be scaled", path)


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    return zero3(tmp_path / "iter_8.pth", lora_state(), 3)


@pytest.mark.parametrize("what", ["model", "optim"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_missing_rank(ranks: Path, rank: int, what: str) -> None:
    (ranks / f"zero_pp_rank_{rank}_mp_rank_00_{what}_states.pt").unlink()
    refused(DamagedError, rf"zero_pp_rank_{rank}_mp_rank_00_{what}_states\.pt is missing", ranks)


def test_the_last_rank_missing(ranks: Path) -> None:
    for what in ("model", "optim"):
        (ranks / f"zero_pp_rank_2_mp_rank_00_{what}_states.pt").unlink()
    refused(DamagedError, "written by 3 ranks, but 2 are here", ranks)


def test_a_truncated_rank(ranks: Path) -> None:
    path = ranks / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    path.write_bytes(path.read_bytes()[:-300])
    refused(DamagedError, r"rank_1_mp_rank_00_optim_states\.pt: was cut short", ranks)


def test_ranks_of_two_steps(ranks: Path) -> None:
    path = ranks / "zero_pp_rank_1_mp_rank_00_model_states.pt"
    state = torch.load(path, weights_only=False)
    torch.save(state | {"global_steps": 16}, path)
    refused(DamagedError, "is of another training or step than .* do not fit together", ranks)


def test_ranks_of_two_trainings(ranks: Path, tmp_path: Path) -> None:
    other = zero3(tmp_path / "other", lora_state(rank=8), 3)
    name = "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    (ranks / name).write_bytes((other / name).read_bytes())
    refused(DamagedError, rf"{name} holds \d+ numbers, but its share .* do not fit", ranks)


def test_tensor_parallel_ranks(ranks: Path) -> None:
    (ranks / "zero_pp_rank_0_mp_rank_01_model_states.pt").write_bytes(b"")
    refused(UnsupportedError, "was trained with tensor parallelism", ranks)


def test_a_folder_that_counts_in_two_ways(tmp_path: Path) -> None:
    xtuner_file(tmp_path / "work" / "iter_8.pth", lora_state())
    xtuner_file(tmp_path / "work" / "epoch_1.pth", lora_state())
    refused(UnsupportedError, "in epoch_N and iter_N; name the one you mean", tmp_path / "work")


def test_a_full_fine_tune_of_another_base(models: Path, shared: Path, tmp_path: Path) -> None:
    real = shared / "data" / "xtuner" / "xtuner020_qwen2_full_iter_32.pth"
    checkpoint = tmp_path / "iter_32.pth"
    checkpoint.symlink_to(real)
    base = models / "tiny-llama"
    said = r"belongs to another base: it has model\.layers\.0\.self_attn\.q_proj\.bias, which"
    refused(AdapterError, said, checkpoint, base=base)
    part = {"llm.model.embed_tokens.weight": torch.ones(512, 128)}
    path = xtuner_file(tmp_path / "part.pth", part, "")
    said = r"is not a whole tiny-qwen2: it lacks \S+ and \d+ more"
    refused(AdapterError, said, path, base=models / "tiny-qwen2")


def test_an_output_that_is_there(tmp_path: Path) -> None:
    path = xtuner_file(tmp_path / "a.pth", lora_state())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(BuildError, match="already exists"):
        convert_adapter(path, tmp_path / "out")


def test_a_model_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    refused(UnsupportedError, "is a model folder already; use it as a base", tmp_path / "model")


def test_a_big_endian_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/byteorder", b"big")
    refused(DamagedError, "big-endian", path)
