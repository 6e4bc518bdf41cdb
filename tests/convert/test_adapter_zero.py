"""DeepSpeed folders of any number of ranks: what was taken apart is put together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from safetensors.torch import load_file  # noqa: E402

from convert.checkpoint import convert_adapter  # noqa: E402
from convert.checkpoint.state import opened_checkpoint  # noqa: E402
from tests.convert.made_checkpoints import (  # noqa: E402
    config_of,
    loaded,
    lora_state,
    peft,
    same,
    tensors,
    zero2,
    zero3,
)

WHOLE = {
    "llm.model.embed_tokens.weight": (50, 30),
    "llm.model.layers.0.self_attn.q_proj.weight": (30, 30),
    "llm.model.layers.0.self_attn.q_proj.bias": (30,),
    "llm.model.norm.weight": (30,),
}


@pytest.fixture
def real(shared: Path) -> Path:
    """Checkpoints that XTuner 0.2.0 itself has written."""
    return shared / "data" / "xtuner"


@pytest.mark.parametrize("stage", [2, 3])
def test_a_real_deepspeed_folder(real: Path, tmp_path: Path, stage: int) -> None:
    folder = real / f"ds_zero{stage}_iter_32.pth"
    made = convert_adapter(folder, tmp_path / "out")
    shard = loaded(folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt")["optimizer_state_dict"]
    key = {2: "single_partition_of_fp32_groups", 3: "fp32_flat_groups"}[stage]
    flat = shard[key][0].detach()
    found = tensors(made.folder)
    assert torch.equal(torch.cat([found[n].flatten() for n in in_order(folder)]), flat)
    assert config_of(made.folder)["lora_alpha"] == 8


def in_order(folder: Path) -> list[str]:
    (states,) = folder.glob("*_model_states.pt")
    return list(peft(loaded(states)["param_shapes"][0]))


@pytest.mark.parametrize("ranks", [2, 3, 8, 11])
@pytest.mark.parametrize("groups", [1, 3])
def test_zero3_of_many_ranks(real: Path, tmp_path: Path, ranks: int, groups: int) -> None:
    """The real one-rank run, cut over more ranks than DeepSpeed could be started with."""
    one = real / "ds_zero3_iter_32.pth"
    state = split_back(one)
    meta = loaded(one / "zero_pp_rank_0_mp_rank_00_model_states.pt")["meta"]
    folder = zero3(tmp_path / "iter_32.pth", state, ranks, config=meta["cfg"], groups=groups)
    same(tensors(convert_adapter(folder, tmp_path / "out").folder), peft(state))


def split_back(folder: Path) -> dict[str, Any]:
    states = loaded(folder / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    shard = loaded(folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    shapes = states["param_shapes"][0]
    flat = shard["optimizer_state_dict"]["fp32_flat_groups"][0].detach()
    parts = flat.split([shape.numel() for shape in shapes.values()])
    return {n: p.reshape(s).clone() for (n, s), p in zip(shapes.items(), parts, strict=True)}


@pytest.mark.parametrize("ranks", [2, 3])
def test_zero2_of_many_ranks(real: Path, tmp_path: Path, ranks: int) -> None:
    one = real / "ds_zero2_iter_32.pth"
    folder = zero2(tmp_path / "iter_32.pth", one, ranks)
    state = loaded(one / "mp_rank_00_model_states.pt")["module"]
    same(tensors(convert_adapter(folder, tmp_path / "out").folder), peft(state))


def test_zero3_in_the_format_the_model_computed_in(tmp_path: Path) -> None:
    """The fp32 masters, rounded as DeepSpeed rounds them into the model at every step."""
    state = lora_state()
    folder = zero3(tmp_path / "zero", state, 3, dtype=torch.bfloat16)
    found = tensors(convert_adapter(folder, tmp_path / "out").folder)
    same(found, {name: tensor.bfloat16() for name, tensor in peft(state).items()})


def test_zero3_of_a_full_fine_tune(tmp_path: Path) -> None:
    """Some weights frozen, the output tied to the input: two names, one tensor."""
    state = {name: torch.randn(shape) for name, shape in WHOLE.items()}
    tied = {"llm.lm_head.weight": "llm.model.embed_tokens.weight"}
    state |= {alias: state[name] for alias, name in tied.items()}
    frozen = ("llm.model.norm.weight",)
    folder = zero3(tmp_path / "zero", state, 4, config="", frozen=frozen, shared=tied)
    made = convert_adapter(folder, tmp_path / "out")
    assert made.kind == "model"
    assert made.lacks is not None
    assert "--base" in made.lacks
    expected = {name.removeprefix("llm."): state[name] for name in WHOLE}
    same(tensors(made.folder, "model.safetensors"), expected)


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 7), max_size=3).map(tuple), min_size=1, max_size=5),
    ranks=st.integers(1, 6),
    groups=st.integers(1, 3),
    data=st.data(),
)
def test_any_rows_of_any_shapes(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[tuple[int, ...]],
    ranks: int,
    groups: int,
    data: st.DataObject,
) -> None:
    """Scalars, tensors smaller than the number of ranks, rows that begin inside a slice."""
    state = {f"llm.t{number}": torch.randn(shape) for number, shape in enumerate(shapes)}
    folder = zero3(tmp_path_factory.mktemp("zero") / "made", state, ranks, groups=groups)
    with opened_checkpoint(folder) as checkpoint:
        for name, tensor in state.items():
            whole = tensor if tensor.ndim else tensor[None]
            start = data.draw(st.integers(0, len(whole)))
            stop = data.draw(st.integers(start, len(whole)))
            rows = checkpoint.tensors.read(name, start, stop)
            assert torch.equal(torch.from_numpy(rows), whole[start:stop]), name


def test_zero3_with_tied_embeddings(models: Path, tmp_path: Path) -> None:
    """One tensor of two names, whatever the base's configuration said before."""
    state = {}
    for shard in (models / "tiny-qwen2").glob("*.safetensors"):
        state |= {f"llm.{name}": tensor.float() for name, tensor in load_file(shard).items()}
    tied = {"llm.lm_head.weight": "llm.model.embed_tokens.weight"}
    folder = zero3(tmp_path / "zero", state, 2, config="", shared=tied)
    made = convert_adapter(folder, tmp_path / "out", base=models / "tiny-qwen2")
    assert json.loads((made.folder / "config.json").read_text())["tie_word_embeddings"] is True
    assert "lm_head.weight" not in tensors(made.folder, "model.safetensors")
