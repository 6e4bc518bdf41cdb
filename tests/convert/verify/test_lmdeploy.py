"""Held against the real LMDeploy: what it loads, what it refuses, and how many bytes it takes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from convert.fit.memory import as_awq, weight_bytes
from convert.fit.needs import read_model
from convert.verify import verify
from convert.verify.loader import LoaderRun
from convert.verify.model_rules import ARCHITECTURES
from tests.convert.verify import made
from tests.convert.verify.damages import DAMAGES, SEALED_WITH, Damage

pytestmark = [pytest.mark.lmdeploy, pytest.mark.timeout(600)]

CASES = [
    ("tiny-llama", 1), ("tiny-llama", 2), ("tiny-qwen2", 2), ("tiny-qwen2-tied", 1),
    ("tiny-internlm2", 2),
]  # fmt: skip


def agreed(folder: Path, lmdeploy: Path, tp: int) -> LoaderRun:
    """The run of a good workspace, whose bytes must be ours on every rank."""
    report = verify(folder, tp=tp, python=lmdeploy)
    assert report.ok, (list(report.findings), report.loader)
    model = read_model(folder, "")
    ours = weight_bytes(model.infos, model.geometry, method=model.method, tp=tp)
    assert report.loader is not None
    assert report.loader.bytes_per_rank == (ours,) * tp
    assert report.loader.left == ()
    assert report.loader.chat_template == "hf"
    return report.loader


@pytest.mark.parametrize(("name", "tp"), CASES)
def test_our_bytes_are_its_bytes(
    tmp_path: Path, shared: Path, lmdeploy: Path, name: str, tp: int
) -> None:
    agreed(made.adopted(shared / "data" / "models" / name, tmp_path / name), lmdeploy, tp)


def test_the_embedded_base_in_16_bits(tmp_path: Path, lmdeploy: Path) -> None:
    found = agreed(made.adopted(made.BASE, tmp_path / "mini"), lmdeploy, 1)
    assert found.dtype == "bfloat16"


@pytest.mark.parametrize("tp", [1, 2])
def test_heads_that_must_be_repeated(tmp_path: Path, lmdeploy: Path, tp: int) -> None:
    """One key-value head for two ranks."""
    agreed(made.plain(tmp_path / "it"), lmdeploy, tp)


def test_a_vocabulary_that_must_be_padded(tmp_path: Path, lmdeploy: Path) -> None:
    folder = made.plain(tmp_path / "it")
    size = made.VOCAB + 3

    def longer(tensors: made.Tensors) -> None:
        kind, raw = tensors["model.embed_tokens.weight"]
        raw = raw.copy()
        raw.resize((size, made.HIDDEN), refcheck=False)
        tensors["model.embed_tokens.weight"] = (kind, raw)

    made.edit_tensors(folder, longer)
    made.edit(folder / "config.json", vocab_size=size)
    agreed(made.seal(folder), lmdeploy, 2)


@pytest.mark.parametrize("tp", [1, 2])
def test_awq_by_lmdeploy_itself(tmp_path: Path, lmdeploy: Path, tp: int) -> None:
    """Its own 4-bit checkpoint of the embedded base passes, and has the bytes we foresaw."""
    made.adopted(made.BASE, tmp_path / "mini")
    command = [
        lmdeploy.with_name("lmdeploy"), "lite", "auto_awq", tmp_path / "mini", "--device", "cpu",
        "--dtype", "float16", "--calib-samples", "0", "--work-dir", tmp_path / "awq",
    ]  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    for name in ("inputs_stats.pth", "outputs_stats.pth", "engine.json", "manifest.json"):
        (tmp_path / "awq" / name).unlink(missing_ok=True)
    agreed(made.adopted(tmp_path / "awq", tmp_path / "it"), lmdeploy, tp)
    base, built = read_model(tmp_path / "mini", ""), read_model(tmp_path / "it", "")
    foreseen = as_awq(base.infos, base.geometry)
    assert foreseen is not None
    assert weight_bytes(foreseen, base.geometry, method="awq", tp=tp) == weight_bytes(
        built.infos, built.geometry, method="awq", tp=tp
    )


REFUSED = [
    damage
    for damage in DAMAGES
    if str(damage) in {
        "1-retired", "2-gemv", "3-64", "4-no layer", "4-no zeros", "4-integers", "7-cut short",
        "8-hf", "9-unknown", "10-longrope", "14-no head", "16-none", "19-16",
    }
]  # fmt: skip


@pytest.mark.parametrize("damage", REFUSED, ids=str)
def test_what_a_rule_forbids_it_refuses_too(tmp_path: Path, lmdeploy: Path, damage: Damage) -> None:
    folder = made.awq(tmp_path / "it") if damage.quantised else made.plain(tmp_path / "it")
    damage.do(folder)
    made.seal(folder, **(SEALED_WITH if damage.quantised else {}))
    report = verify(folder, tp=damage.tp, python=lmdeploy)
    assert report.failed == (damage.rule,)
    assert report.loader is not None
    assert not report.loader.ok


def test_the_architectures_are_its_own(lmdeploy: Path) -> None:
    code = (
        "from lmdeploy.turbomind.supported_models import SUPPORTED_ARCHS as a; print(' '.join(a))"
    )
    ran = subprocess.run([lmdeploy, "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == set(ARCHITECTURES)
