"""A fine-tune of a retired architecture is measured across its re-layout too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from convert.errors import FidelityError
from convert.run import build
from tests.convert import made_retired as made
from tests.convert.made_checkpoints import CONFIG, xtuner_file
from tests.convert.making import house
from tests.convert.test_relayout import tuned

pytestmark = pytest.mark.usefixtures("any_model")

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def workspace(tmp_path: Path, kind: str) -> Path:
    """The fused projection is adapted as one, and compared after it was cut in three."""
    if kind == "qwen":
        base = made.qwen_folder(tmp_path / "base", made.BYTES)
        weights, at = made.qwen_weights(), "transformer.h.1"
        modules = [f"{at}.{part}" for part in ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2")]
    else:
        base = made.internlm_folder(tmp_path / "base")
        path = base / "tokenizer_config.json"
        config = json.loads(path.read_text()) | {"chat_template": TEMPLATE}
        path.write_text(json.dumps(config))
        weights, at = made.internlm_weights(), "model.layers.1"
        modules = [f"{at}.self_attn.{part}_proj" for part in "qkvo"]
        modules += [f"{at}.mlp.{part}_proj" for part in ("gate", "up", "down")]
    state, _ = tuned(weights, "llm.base_model.model.", modules)
    checkpoint = xtuner_file(tmp_path / "iter_8.pth", state, CONFIG)
    assistants = house(tmp_path / "assistants", base=str(base), adapter=str(checkpoint))
    (built,) = build(assistants, engine="turbomind", workspaces=tmp_path / "workspaces")
    return built.folder


@pytest.mark.parametrize("kind", ["internlm", "qwen"])
def test_a_relaid_model_computes_what_base_and_adapter_do(tmp_path: Path, kind: str) -> None:
    manifest = json.loads((workspace(tmp_path, kind) / "manifest.json").read_text())
    found = manifest["fidelity"]["merge"]
    assert found["logit_difference"]["relative"] < 5e-6  # these are stored in fp32


def test_rows_cut_at_the_wrong_place_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convert.merge import merged

    real = merged._factors

    def shifted(
        source: merged.TensorSource, name: str, low_rank: merged.LowRank
    ) -> merged._Factors:
        factors = real(source, name, low_rank)
        if "c_attn" in name:
            factors.left = factors.left[[*range(1, len(factors.left)), 0]]
        return factors

    monkeypatch.setattr(merged, "_factors", shifted)
    with pytest.raises(FidelityError):
        workspace(tmp_path, "qwen")
