"""From folder to folder: what is in it, how close it is, and what an interruption costs."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.errors import BuildError, ConvertError, FidelityError, UnsupportedError
from convert.forward.checkpoint import open_checkpoint
from convert.progress import Unwatched
from convert.quantize import Settings, quantize
from tests.convert.quantize.conftest import Make

ARCHITECTURES = ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "InternLM2ForCausalLM"]
SMALL = Settings(samples=8, seqlen=64, threads=1, limit=0.5)
"""Of random weights, which are further apart in 4 bits than those of any trained model."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_model_becomes_awq(make_model: Make, dialogues: Path, tmp_path: Path, arch: str) -> None:
    model, out = make_model(arch), tmp_path / "out"
    found = quantize(model, out, calibration=dialogues, settings=SMALL)
    config = json.loads((out / "config.json").read_text())
    assert config["quantization_config"] == {
        "quant_method": "awq", "version": "gemm", "bits": 4, "group_size": 128, "zero_point": True,
    }  # fmt: skip
    assert config["torch_dtype"] == "bfloat16"
    with open_checkpoint(model) as old, open_checkpoint(out) as new:
        for name, (outputs, inputs) in old.shapes().items():
            module, infos = name.removesuffix(".weight"), new.source.infos
            assert name not in infos
            shapes = {mark: infos[f"{module}.{mark}"] for mark in ("qweight", "qzeros", "scales")}
            assert {m: (i.dtype, i.shape) for m, i in shapes.items()} == {
                "qweight": ("I32", (inputs, outputs // 8)),
                "qzeros": ("I32", (inputs // 128, outputs // 8)),
                "scales": ("BF16", (inputs // 128, outputs)),
            }
            assert (f"{module}.bias" in infos) == (f"{module}.bias" in old.source.infos)
        for info in old.outside():
            assert new.source.infos[info.name] == info
            assert (new.source.read(info.name, 0, 2) == old.source.read(info.name, 0, 2)).all()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                 "generation_config.json"):  # fmt: skip
        assert (out / name).read_bytes() == (model / name).read_bytes()
    assert not any(path.suffix in (".pth", ".f32") for path in out.iterdir())
    assert not (tmp_path / ".out.quantizing").exists()
    assert 0.8 < found.fidelity.growth < 1.25
    assert all(0 < error.own < 0.5 for error in found.fidelity.layers)
    manifest = json.loads(json.dumps(found.manifest()))
    assert manifest["calibration"]["dialogues"] == 32
    assert manifest["fidelity"]["perplexity"]["original"] == found.fidelity.original


def test_scaling_and_clipping_each_err_less_than_plain_rounding(
    make_model: Make, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()

    def errors(name: str, *, clip: bool) -> list[float]:
        chosen = replace(SMALL, clip=clip)
        made = quantize(model, tmp_path / name, calibration=dialogues, settings=chosen)
        return [error.own for error in made.fidelity.layers]

    scaled = errors("scaled", clip=False)
    monkeypatch.setattr("convert.quantize.scale.STEPS", 0)
    plain, clipped = errors("plain", clip=False), errors("clipped", clip=True)
    assert all(better < worse * 0.97 for better, worse in zip(scaled, plain, strict=True))
    assert all(better < worse * 0.97 for better, worse in zip(clipped, plain, strict=True))


def test_odd_widths_become_compressed_tensors(
    make_model: Make, dialogues: Path, tmp_path: Path
) -> None:
    model = make_model(hidden_size=192, intermediate_size=288, num_attention_heads=3,
                       num_key_value_heads=1)  # fmt: skip
    found = quantize(model, tmp_path / "out", calibration=dialogues, settings=SMALL)
    group = found.quantization["config_groups"]["group_0"]
    assert group["format"] == "pack-quantized"
    assert group["weights"]["group_size"] == 32
    with open_checkpoint(tmp_path / "out") as new:
        infos = new.source.infos
    at = "model.layers.1.mlp.down_proj"
    assert infos[f"{at}.weight_packed"].shape == (192, 288 // 8)
    assert infos[f"{at}.weight_scale"].shape == (192, 288 // 32)
    assert infos[f"{at}.weight_zero_point"].shape == (192 // 8, 288 // 32)
    assert 0.8 < found.fidelity.growth < 1.25


def test_a_width_that_fits_nothing_is_named(
    make_model: Make, dialogues: Path, tmp_path: Path
) -> None:
    model = make_model(intermediate_size=272)
    with pytest.raises(UnsupportedError, match=r"layers\.0\.mlp\.down_proj\.weight is 256×272"):
        quantize(model, tmp_path / "out", calibration=dialogues, settings=SMALL)
    assert not (tmp_path / "out").exists()


def test_fp32_is_narrowed_as_turbomind_would(
    make_model: Make, dialogues: Path, tmp_path: Path
) -> None:
    model, out = make_model(dtype="F32"), tmp_path / "out"
    quantize(model, out, calibration=dialogues, settings=SMALL)
    with open_checkpoint(out) as new:
        assert {info.dtype for info in new.source.infos.values()} == {"I32", "BF16"}
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == "bfloat16"


class Interrupting(Unwatched):
    """Somebody who loses patience after some steps."""

    def __init__(self, steps: int | None = None) -> None:
        self.steps = steps
        self.seen = 0

    def advance(self, n: int) -> None:
        self.seen += 1
        if self.seen == self.steps:
            raise KeyboardInterrupt


def test_an_interrupted_run_ends_with_the_same_bytes(
    make_model: Make, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(num_hidden_layers=3)

    def run(out: str, progress: Interrupting | None = None) -> None:
        quantize(model, tmp_path / out, calibration=dialogues, settings=SMALL, progress=progress)

    run("whole")
    whole = contents(tmp_path / "whole")
    done: list[int] = []
    from convert.quantize import run as module

    layer = module._layer
    monkeypatch.setattr(module, "_layer", lambda *given: (done.append(given[-1]), layer(*given))[1])
    for steps in range(1, 5):
        again = f"again{steps}"
        with pytest.raises(KeyboardInterrupt):
            run(again, Interrupting(steps))
        assert not (tmp_path / again).exists()
        done.clear()
        run(again)
        assert done == list(range(steps - 1, 3))
        assert contents(tmp_path / again) == whole


def damage_shard(draft: Path) -> None:
    shard = draft / "model" / "model-00002-of-00003.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)


def damage_hidden(draft: Path) -> None:
    next(draft.glob("*.f32")).write_bytes(b"")


def damage_state(draft: Path) -> None:
    (draft / "state.json").write_text("{")


@pytest.mark.parametrize("damage", [damage_shard, damage_hidden, damage_state])
def test_a_damaged_draft_is_begun_anew(
    make_model: Make, dialogues: Path, tmp_path: Path, damage: Any
) -> None:
    model = make_model()
    with pytest.raises(KeyboardInterrupt):
        quantize(model, tmp_path / "out", calibration=dialogues, settings=SMALL,
                 progress=Interrupting(2))  # fmt: skip
    damage(tmp_path / ".out.quantizing")
    found = quantize(model, tmp_path / "out", calibration=dialogues, settings=SMALL)
    assert found.fidelity.growth < 1.25


def test_another_input_takes_no_draft_up(make_model: Make, dialogues: Path, tmp_path: Path) -> None:
    model = make_model()
    with pytest.raises(KeyboardInterrupt):
        quantize(model, tmp_path / "out", calibration=dialogues, settings=SMALL,
                 progress=Interrupting(3))  # fmt: skip
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1  # the lowest bit of the last weight
    path.write_bytes(data)
    counting = Interrupting()
    quantize(model, tmp_path / "out", calibration=dialogues, settings=SMALL, progress=counting)
    with open_checkpoint(model) as old, open_checkpoint(tmp_path / "out") as new:
        rows = old.source.infos["lm_head.weight"].rows
        last = [c.source.read("lm_head.weight", rows - 1, rows)[0, -1] for c in (old, new)]
    assert last[0] == last[1]


def test_too_bad_a_model_gets_no_name(make_model: Make, dialogues: Path, tmp_path: Path) -> None:
    strict = replace(SMALL, limit=0.0)
    with pytest.raises(
        FidelityError, match=r"diverge by .* from the original's where 0 is allowed"
    ):
        quantize(make_model(), tmp_path / "out", calibration=dialogues, settings=strict)
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_left_alone(make_model: Make, dialogues: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    model = make_model()
    with pytest.raises(BuildError, match="already exists"):
        quantize(model, out, calibration=dialogues, settings=SMALL)
    assert contents(out) == {"mine": b"x"}


def test_a_quantised_model_is_not_quantised_again(
    make_model: Make, dialogues: Path, tmp_path: Path
) -> None:
    quantize(make_model(), tmp_path / "out", calibration=dialogues, settings=SMALL)
    with pytest.raises(UnsupportedError, match="quantised already"):
        quantize(tmp_path / "out", tmp_path / "twice", calibration=dialogues, settings=SMALL)


def test_without_torch_one_sentence_says_how_to_get_it(
    make_model: Make, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    remedy = rf"{re.escape(sys.executable)} -m pip install torch"
    with pytest.raises(UnsupportedError, match=remedy):
        quantize(make_model(), tmp_path / "out", calibration=dialogues)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"method": "gptq"}, "no method 'gptq'"),
        ({"tool": "autoawq"}, "no tool 'autoawq'"),
        ({"samples": 0}, "from 1"),
        ({"seqlen": 3}, "too short"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConvertError, match=sentence):
        Settings(**wrong)


def test_cuda_is_not_pretended(make_model: Make, dialogues: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UnsupportedError, match="no CUDA device"):
        quantize(make_model(), tmp_path / "out", calibration=dialogues,
                 settings=Settings(device="cuda"))  # fmt: skip


def test_where_nobody_says_it_computes_on_a_gpu_with_room(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from convert.quantize.device import settled

    def device(free: int, *, asked: str = "auto") -> str:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 80 << 30))
        return settled(Settings(device=asked), 400 << 20).device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device(24 << 30) == "cuda"
    assert device(2 << 30) == "cpu"  # engines have the rest
    assert device(4 << 30) == "cpu"  # the layers would fit, and nothing beside them
    assert device(24 << 30, asked="cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device(24 << 30) == "cpu"


def test_a_draft_of_another_number_of_threads_is_begun_anew(
    make_model: Make, dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Last bits may differ: no model is made of two halves."""
    monkeypatch.setattr("convert.forward.threads._BYTES_PER_THREAD", 1 << 10)
    model, path = make_model(), tmp_path / ".out.quantizing/model/model-00002-of-00003.safetensors"

    def halfway(threads: int) -> int:
        wanted = replace(SMALL, threads=threads)
        with pytest.raises(KeyboardInterrupt):
            quantize(model, tmp_path / "out", calibration=dialogues, settings=wanted,
                     progress=Interrupting(2))  # fmt: skip
        return path.stat().st_ctime_ns

    first = halfway(1)
    assert halfway(1) == first
    assert halfway(2) != first
