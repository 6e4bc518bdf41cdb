"""Training checkpoints made of real ones: split over ranks, renamed, damaged.

XTuner's own one-rank folders are real; more ranks than one could not be trained where they were
made. So a real run's tensors are cut here by DeepSpeed's rule (`zero/partition_parameters.py`:
ceil(n / ranks) numbers each, the end padded) and written as its files name them.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from convert.checkpoint import convert_adapter
from convert.errors import ConvertError

CONFIG = """
from peft import LoraConfig
rank = 4
model = dict(
    type='xtuner.model.SupervisedFinetune',
    llm=dict(pretrained_model_name_or_path='models/some-base'),
    lora=dict(
        type=LoraConfig, r=rank, lora_alpha=2 * rank, lora_dropout=0.1, task_type='CAUSAL_LM'))
"""


class Nothing(dict[Any, Any]):
    """Whatever a checkpoint holds of libraries that are not installed here."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        return None

    def __hash__(self) -> int:
        return id(self)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in ("torch", "collections"):
            return super().find_class(module, name)
        return Nothing


def loaded(path: Path) -> dict[str, Any]:
    """A checkpoint as torch reads it, for tests that trust it."""
    module = SimpleNamespace(Unpickler=_Unpickler, __name__="unpickling")
    found: dict[str, Any] = torch.load(path, pickle_module=module, weights_only=False)
    return found


def lora_state(rank: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    """Factors on two modules of one layer, as XTuner names them."""
    made = torch.Generator().manual_seed(seed)
    prefix = "llm.base_model.model.model.layers.0"
    return {
        f"{prefix}.{module}.lora_{part}.default.weight": torch.randn(shape, generator=made)
        for module in ("self_attn.q_proj", "mlp.up_proj")
        for part, shape in (("A", (rank, 30)), ("B", (30, rank)))
    }


def xtuner_file(path: Path, state: dict[str, Any], config: str | None = CONFIG) -> Path:
    """A `.pth` as XTuner writes one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {"epoch": 0, "iter": 32} | ({"cfg": config} if config is not None else {})
    torch.save({"meta": meta, "message_hub": {}, "state_dict": state}, path)
    return path


def zero3(
    folder: Path,
    state: dict[str, torch.Tensor],
    ranks: int,
    *,
    config: str | None = CONFIG,
    dtype: torch.dtype = torch.float32,
    groups: int = 1,
    frozen: tuple[str, ...] = (),
    shared: dict[str, str] | None = None,
) -> Path:
    """A ZeRO-3 folder of any number of ranks; `groups` flat groups on each."""
    folder.mkdir(parents=True)
    own = [name for name in state if name not in {*frozen, *(shared or {})}]
    for rank in range(ranks):
        slices = {name: _slice(tensor, rank, ranks) for name, tensor in state.items()}
        step = -(-len(own) // groups)
        parts = [own[i : i + step] for i in range(0, len(own), step)]
        torch.save(
            {
                "module": {name: torch.empty(0, dtype=dtype) for name in state},
                "param_shapes": [{name: state[name].shape for name in part} for part in parts],
                "frozen_param_shapes": {name: state[name].shape for name in frozen} or None,
                "frozen_param_fragments": {name: slices[name] for name in frozen} or None,
                "shared_params": shared or {},
                "buffer_names": [],
                "dp_world_size": ranks,
                "global_steps": 32,
                "meta": {"iter": 32, "cfg": config},
            },
            folder / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt",
        )
        flats = [torch.cat([slices[name].float() for name in part]) for part in parts]
        content = {"zero_stage": 3, "partition_count": ranks, "fp32_flat_groups": flats}
        torch.save(
            {"optimizer_state_dict": content},
            folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
        )
    return folder


def _slice(tensor: torch.Tensor, rank: int, ranks: int) -> torch.Tensor:
    length = -(-tensor.numel() // ranks)
    padded = torch.full((length * ranks,), 7.0, dtype=tensor.dtype)  # padding must not be read
    padded[: tensor.numel()] = tensor.flatten()
    return padded[rank * length : (rank + 1) * length].clone()


def zero2(folder: Path, real: Path, ranks: int) -> Path:
    """A real ZeRO-2 folder with its optimizer's partition cut over more ranks, padded as
    `stage_1_and_2.py` pads it: to twice the number of ranks."""
    folder.mkdir(parents=True)
    whole = "mp_rank_00_model_states.pt"
    (folder / whole).write_bytes((real / whole).read_bytes())
    shard = loaded(real / "zero_pp_rank_0_mp_rank_00_optim_states.pt")["optimizer_state_dict"]
    flat = shard["single_partition_of_fp32_groups"][0].detach()
    padded = torch.cat([flat, torch.zeros(-flat.numel() % (2 * ranks))])
    for rank, part in enumerate(padded.chunk(ranks)):
        content = {
            "zero_stage": 2,
            "partition_count": [ranks],
            "single_partition_of_fp32_groups": [part.clone()],
        }
        torch.save(
            {"optimizer_state_dict": content},
            folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
        )
    return folder


def tensors(folder: Path, name: str = "adapter_model.safetensors") -> dict[str, Any]:
    found: dict[str, Any] = load_file(folder / name)
    return found


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def peft(state: dict[str, Any]) -> dict[str, Any]:
    """What PEFT calls the tensors of an XTuner LoRA; written out apart from the code under test."""
    return {n.replace("llm.", "", 1).replace(".default", ""): t for n, t in state.items()}


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return found


def refused(error: type[ConvertError], said: str, checkpoint: Path, **options: Any) -> None:
    out = checkpoint.parent / "made" / "out"
    with pytest.raises(error, match=said) as caught:
        convert_adapter(checkpoint, out, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    left = list(out.parent.iterdir()) if out.parent.exists() else []
    assert left == []
