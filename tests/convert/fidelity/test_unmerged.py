"""A base with its adapter beside it computes what PEFT computes: every kind of LoRA, logit by
logit, in fp32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
peft = pytest.importorskip("peft", reason="PEFT is not installed (make test installs it)")
transformers = pytest.importorskip("transformers")

from convert.errors import UnsupportedError  # noqa: E402
from convert.fidelity.unmerged import Unmerged, open_unmerged  # noqa: E402
from convert.forward.decoder import rms_norm  # noqa: E402
from tests.convert.made_models import MODELS, VOCAB  # noqa: E402
from tests.convert.test_merge_matrix import FEATURES, adapter_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT and transformers warn of themselves

OF_BIASES = ("bias all", "bias lora_only", "lora_bias", "dora")
COMPUTED = {"Llama": FEATURES, "Qwen2": OF_BIASES, "Qwen2-tied": FEATURES, "Qwen3": ("plain",)}
"""Those whose forward pass transformers has."""
CASES = [
    (model, feature)
    for model, features in COMPUTED.items()
    for feature in features
    if FEATURES[feature].refused(MODELS[model]) is None
]


def logits(unmerged: Unmerged, tokens: Any) -> Any:
    with torch.inference_mode():
        decoder = unmerged.base.decoder(tokens.shape[1], "cpu")
        hidden = unmerged.embedded(tokens)
        for index in range(unmerged.base.geometry.layers):
            hidden = decoder.forward(unmerged.layer(index, "cpu"), hidden)
        states = rms_norm(hidden, unmerged.final_norm("cpu"), decoder.eps)
        return torch.cat([part for _, part in unmerged.logits(states)], dim=-1)


@pytest.mark.parametrize(("model", "feature"), CASES, ids=["-".join(case) for case in CASES])
def test_what_peft_computes(
    model: str, feature: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convert.forward.checkpoint._HEAD_ROWS", 10)
    made = MODELS[model]
    base = made.folder(tmp_path / "base", "single")
    adapter = adapter_of(made, FEATURES[feature], tmp_path / "adapter")
    tokens = torch.arange(24).reshape(2, 12) * 5 % VOCAB
    # Where the two are tied, PEFT adapts both; with an output of its own it does what was trained.
    tuned = peft.PeftModel.from_pretrained(made.module(torch.float32, untied=True), adapter)
    with torch.inference_mode():
        wanted = tuned.eval()(tokens).logits
    with open_unmerged(base, adapter) as unmerged:
        found = logits(unmerged, tokens)
    with open_unmerged(base, adapter) as plain:
        bare = logits(Unmerged(plain.base, plain.output, plain.adapter, {}, {}), tokens)
    tolerance = 1e-5 * wanted.abs().max()
    assert (found - wanted).abs().max() < tolerance
    assert (bare - wanted).abs().max() > 10 * tolerance


def test_a_module_that_is_not_computed_is_named(tmp_path: Path) -> None:
    made = MODELS["Llama"]
    base = made.folder(tmp_path / "base", "single")
    adapter = adapter_of(made, FEATURES["plain"], tmp_path / "adapter")
    path = adapter / "adapter_model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    renamed = {name.replace("layers.1.mlp.up_proj", "vision.0.up_proj"): value
               for name, value in header.items()}  # fmt: skip
    text = json.dumps(renamed).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    with pytest.raises(UnsupportedError, match=r"changes model\.vision\.0\.up_proj"), \
         open_unmerged(base, adapter):  # fmt: skip
        pass
