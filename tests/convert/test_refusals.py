"""What cannot be done: one sentence that names it, and nothing half-written; see test_damage."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from assistants import House
from convert.errors import AdapterError, ConvertError, DamagedError, FetchError, UnsupportedError
from convert.merged_folder import merge
from convert.run import build
from convert.weights.shards import parse_size
from convert.weights.torch_zip import TorchFile
from tests.convert.making import house, small_adapter, small_base, write_safetensors


def refused(error: type[ConvertError], said: str, base: Path, adapter: Path | None) -> None:
    """The merge is refused in one sentence that says `said`, and leaves nothing behind."""
    out = base.parent / "out"
    before = sorted(base.parent.rglob("*"))
    with pytest.raises(error, match=said) as caught:
        merge(base, adapter, out)
    assert "\n" not in str(caught.value)
    left = [path for path in sorted(base.parent.rglob("*")) if path not in before]
    assert left == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is IA3; only LORA"),
        ({"use_qalora": True}, "QALoRA"),
        ({"use_dora": True}, "has no DoRA magnitude"),
    ],
)
def test_adapters_that_cannot_be_merged(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter", **changes)
    refused(AdapterError, said, base, adapter)


NEVER_MERGED = (
    "trainable_token_indices target_parameters layer_replication alora_invocation_tokens "
    "use_qalora use_bdlora velora_config monteclora_config arrow_config kasa_config "
    "ensure_weight_tying megatron_config"
)


@pytest.mark.parametrize("key", NEVER_MERGED.split())
def test_kinds_of_adapter_that_no_merge_can_follow(tmp_path: Path, key: str) -> None:
    base = small_base(tmp_path / "base")
    adapter = small_adapter(tmp_path / "adapter", **{key: {"any": 1}})
    refused(AdapterError, rf"\({key}\), which cannot be merged", base, adapter)


@pytest.mark.parametrize(
    ("module", "shapes", "changes", "said"),
    [
        ("self_attn.q_proj", {"A": (4, 32), "B": (32, 3)}, {}, "factors of rank 4 and 3, its"),
        ("self_attn.q_proj", {"A": (3, 32), "B": (32, 4)}, {}, "factors of rank 3 and 4, its"),
        ("mlp.up_proj", {"A": (4, 96), "B": (32, 4)}, {}, "another base: .* as 32×96, .* 96×32"),
        (
            "self_attn.q_proj",
            {"A": (4, 32), "B": (32, 4), "magnitude_vector": (31,)},
            {"use_dora": True},
            "a DoRA magnitude of 31 for 32 outputs",
        ),
    ],
)
def test_factors_that_do_not_fit(
    tmp_path: Path,
    module: str,
    shapes: dict[str, tuple[int, ...]],
    changes: dict[str, object],
    said: str,
) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter", **changes)
    at = f"base_model.model.model.layers.0.{module}.lora_"
    tensors = {f"{at}{part}.weight": np.ones(shape) for part, shape in shapes.items()}
    write_safetensors(adapter / "adapter_model.safetensors", tensors, "F32")
    refused(AdapterError, said, base, adapter)


def test_a_quantised_base(tmp_path: Path) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter")
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"dtype":"BF16"', b'"dtype":"I16" '))
    refused(AdapterError, "stores .* as I16: it is quantised", base, adapter)


def test_an_adapter_without_its_weights(tmp_path: Path) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").unlink()
    refused(FetchError, "holds no weights", base, adapter)


def torch_archive(path: Path, content: object) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("archive/byteorder", b"little")


def test_other_things_that_are_no_torch_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"PK not a zip")
    with pytest.raises(DamagedError, match="is not a torch archive"):
        TorchFile(path)
    torch_archive(path, {"a": 1})
    with pytest.raises(DamagedError, match="holds no tensors"):
        TorchFile(path)


def test_a_torch_tensor_that_reaches_outside_its_storage(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
    path = tmp_path / "x.bin"
    torch.save({"a": torch.arange(6.0)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = next(name for name in members if name.endswith("data/0"))
    members[data] = members[data][:8]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DamagedError, match="has no complete storage"):
        TorchFile(path).read("a", 0, 6)


def test_torch_tensors_of_all_formats_and_strides(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
    path = tmp_path / "x.bin"
    whole = torch.arange(24.0).reshape(4, 6)
    torch.save(
        {"plain": whole, "turned": whole.T, "part": whole[1:3], "half": whole.half(),
         "brain": whole.bfloat16(), "parameter": torch.nn.Parameter(whole)}, path
    )  # fmt: skip
    file = TorchFile(path)
    assert file.read("plain", 1, 3).tolist() == whole[1:3].tolist()
    assert file.read("turned", 2, 5).tolist() == whole.T[2:5].tolist()
    assert file.read("part", 0, 2).tolist() == whole[1:3].tolist()
    assert file.read("half", 0, 4).tolist() == whole.tolist()
    bits = file.read("brain", 0, 4).astype(np.uint32) << 16
    assert bits.view(np.float32).tolist() == whole.tolist()
    assert file.read("parameter", 3, 4).tolist() == whole[3:].tolist()


def test_a_base_that_is_a_file(tmp_path: Path) -> None:
    base = tmp_path / "model.gguf"
    base.write_bytes(b"GGUF")
    refused(DamagedError, "model.gguf: is not a whole GGUF file", base, None)


def test_an_output_that_is_there(tmp_path: Path) -> None:
    base = small_base(tmp_path / "base")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(ConvertError, match="already exists"):
        merge(base, None, tmp_path / "out")


def test_a_reference_that_leads_nowhere(tmp_path: Path) -> None:
    made = house(tmp_path / "assistants", base="hanlin-mimi")
    with pytest.raises(FetchError, match=r"looked for .*hanlin-mimi.*did you mean .*hanlin-mini\?"):
        build(made, engine="llamacpp", workspaces=tmp_path / "workspaces")


def test_a_tokenizer_that_llama_cpp_would_not_reproduce(mini: House, tmp_path: Path) -> None:
    path = tmp_path / "mini" / "tokenizer.json"
    found = json.loads(path.read_text())
    found["pre_tokenizer"] = {"type": "Whitespace"}
    path.write_text(json.dumps(found))
    with pytest.raises(UnsupportedError, match=r"tokenizer\.json: a SentencePiece tokenizer"):
        build(mini, engine="llamacpp", workspaces=tmp_path / "workspaces")


def test_an_unknown_architecture(mini: House, tmp_path: Path) -> None:
    path = tmp_path / "mini" / "config.json"
    path.write_text(path.read_text().replace("LlamaForCausalLM", "MambaForCausalLM"))
    with pytest.raises(UnsupportedError, match="MambaForCausalLM cannot be written for"):
        build(mini, engine="llamacpp", workspaces=tmp_path / "workspaces")


@pytest.mark.parametrize("text", ["", "5 XB", "-1GB", "0", "0.1B", "9" * 400])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(f"'{text}' is not a size")):
        parse_size(text)


def test_sizes() -> None:
    assert [parse_size(t) for t in ("5GB", "1.5 MiB", "7")] == [5 * 10**9, 3 * 2**19, 7]
