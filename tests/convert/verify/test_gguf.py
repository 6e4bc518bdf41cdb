"""The rules of a llama.cpp workspace: those of text and folder, and one GGUF that is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quants

from convert.verify import verify
from convert.verify.table import RULES
from tests.convert.verify import made

ENGINE = {
    "engine": "llamacpp", "assistant": "made", "model": "model.gguf", "type": "q8_0",
    "context": 1024, "parallel": 4, "threads": 1,
}  # fmt: skip


def write_gguf(folder: Path, tensors: int = 3) -> None:
    writer = GGUFWriter(folder / "model.gguf", "llama")
    writer.add_context_length(1024)
    kind = GGMLQuantizationType.Q8_0
    raw = quants.quantize(np.ones((4, 64), np.float32), kind)
    for i in range(tensors):
        writer.add_tensor(f"blk.{i}.attn_q.weight", raw, raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def workspace(folder: Path) -> Path:
    made.plain(folder)
    (folder / "model.safetensors").unlink()
    made.write_json(folder / "engine.json", ENGINE)
    write_gguf(folder)
    return made.seal(folder, tensors={"count": 4})


def failed(folder: Path) -> tuple[int, ...]:
    return verify(folder, loader=False).failed


def test_a_good_one_passes(tmp_path: Path) -> None:
    report = verify(workspace(tmp_path / "it"))
    assert report.ok, list(report.findings)
    assert report.engine == "llamacpp"
    assert report.loader is None
    numbers = {verdict.rule.number for verdict in report.verdicts}
    assert numbers == {rule.number for rule in RULES if "llamacpp" in rule.engines}
    assert {15, 16, 22, 24} <= numbers


def cut_short(folder: Path) -> None:
    path = folder / "model.gguf"
    path.write_bytes(path.read_bytes()[:-300])


DAMAGES: dict[str, tuple[int, Callable[[Path], object]]] = {
    "missing": (24, lambda folder: (folder / "model.gguf").unlink()),
    "cut short": (24, cut_short),
    "not gguf": (24, lambda folder: (folder / "model.gguf").write_bytes(b"GGXX" * 100)),
    "too few": (24, lambda folder: write_gguf(folder, 2)),
    "type": (24, lambda folder: made.edit(folder / "engine.json", type="f16")),
    "context": (24, lambda folder: made.edit(folder / "engine.json", context=4096)),
    "template": (16, lambda folder: (
        (folder / "chat_template.jinja").unlink(),
        made.edit(folder / "tokenizer_config.json", chat_template=...))),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_breaks_exactly_its_rule(tmp_path: Path, name: str) -> None:
    folder = workspace(tmp_path / "it")
    rule, do = DAMAGES[name]
    do(folder)
    made.seal(folder, tensors={"count": 4})
    assert failed(folder) == (rule,)


def test_a_changed_gguf_is_seen(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "it")
    path = folder / "model.gguf"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))
    assert failed(folder) == (22,)
