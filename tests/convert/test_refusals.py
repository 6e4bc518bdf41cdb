"""Bad input: one sentence that names the thing, nothing half-written, nothing old touched."""

from __future__ import annotations

import collections
import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from assistants import House
from convert.errors import AdapterError, ConvertError, DamagedError, FetchError, UnsupportedError
from convert.run import build
from convert.safetensors_files import SafetensorsFolder
from convert.shards import parse_size
from convert.steps import merge
from convert.torch_zip import TorchFile
from tests.convert.making import house, small_adapter, small_base, write_safetensors


def refused(error: type[ConvertError], said: str, base: Path, adapter: Path | None) -> None:
    """The merge is refused in one sentence that says `said`, and leaves nothing behind."""
    out = base.parent / "out"
    before = sorted(base.parent.rglob("*"))
    with pytest.raises(error, match=said) as caught:
        merge(base, adapter, out)
    assert "\n" not in str(caught.value)
    left = [path for path in sorted(base.parent.rglob("*")) if path not in before]
    assert [path for path in left if path.name != ".out.lock"] == []


def test_a_truncated_shard(tmp_path: Path) -> None:
    base = small_base(tmp_path / "base")
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused(DamagedError, r"model.safetensors: was cut short", base, None)


def test_a_shard_cut_inside_its_header(tmp_path: Path) -> None:
    base = small_base(tmp_path / "base")
    file = base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    refused(DamagedError, r"is not a safetensors file, or was cut short", base, None)


@pytest.mark.parametrize(
    ("old", "new"), [('"shape":[96,32]', '"shape":[95,32]'), ("[4096,6144]", "[4096,6143]")]
)
def test_a_header_that_lies(tmp_path: Path, old: str, new: str) -> None:
    base = small_base(tmp_path / "base")
    file = base / "model.safetensors"
    content = file.read_bytes()
    assert old.encode() in content
    file.write_bytes(content.replace(old.encode(), new.encode()))
    refused(DamagedError, r"lies about model\.layers\.0", base, None)


def sharded(folder: Path) -> Path:
    out = folder / "sharded"
    merge(small_base(folder / "base"), None, out, max_shard_size=5000)
    assert len(list(out.glob("model-*.safetensors"))) > 2
    return out


def test_a_missing_shard(tmp_path: Path) -> None:
    base = sharded(tmp_path)
    (base / "model-00002-of-00004.safetensors").unlink()
    refused(DamagedError, r"names the shard model-00002-of-00004.safetensors", base, None)


def test_an_index_that_points_elsewhere(tmp_path: Path) -> None:
    base = sharded(tmp_path)
    index = base / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"model-00001', '"../model-00001'))
    refused(DamagedError, r"not plain file names", base, None)


def test_an_index_and_its_shards_at_odds(tmp_path: Path) -> None:
    base = sharded(tmp_path)
    index = base / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"model.norm', '"model.form'))
    refused(DamagedError, r"says that model\.form\.weight is in", base, None)


@pytest.mark.parametrize("where", ["base", "adapter"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_numbers(tmp_path: Path, where: str, value: float) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter")
    name = "model.norm.weight"
    spoilt = np.ones(32)
    spoilt[5] = value
    if where == "base":
        write_safetensors(base / "model.safetensors", {name: spoilt})
        refused(ConvertError, r"model\.norm\.weight .* not finite", base, None)
        return
    prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    a = np.ones((4, 32))
    a[0] = spoilt
    factors = {f"{prefix}A.weight": a, f"{prefix}B.weight": np.ones((32, 4))}
    write_safetensors(adapter / "adapter_model.safetensors", factors, "F32")
    refused(AdapterError, r"q_proj\.lora_A\.weight .* not finite", base, adapter)


def test_a_wrong_rank(tmp_path: Path) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter", r=8)
    refused(AdapterError, r"q_proj has factors of rank 4 and 4, .* says 8", base, adapter)


def test_an_adapter_for_another_base_by_shape(tmp_path: Path) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter")
    prefix = "base_model.model.model.layers.0.mlp.up_proj.lora_"
    factors = {f"{prefix}A.weight": np.ones((4, 64)), f"{prefix}B.weight": np.ones((128, 4))}
    write_safetensors(adapter / "adapter_model.safetensors", factors, "F32")
    said = r"another base: it changes model\.layers\.0\.mlp\.up_proj\.weight as 128×64, .* 96×32"
    refused(AdapterError, said, base, adapter)


def test_an_adapter_for_another_base_by_name(tmp_path: Path) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter")
    prefix = "base_model.model.model.layers.7.mlp.up_proj.lora_"
    factors = {f"{prefix}A.weight": np.ones((4, 32)), f"{prefix}B.weight": np.ones((96, 4))}
    write_safetensors(adapter / "adapter_model.safetensors", factors, "F32")
    refused(AdapterError, r"model\.layers\.7\.mlp\.up_proj\.weight, which this base", base, adapter)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is IA3; only LORA"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"use_qalora": True}, "QALoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4, which also changed the base"),
        ({"use_dora": True}, "has no DoRA magnitude"),
    ],
)
def test_adapters_that_cannot_be_merged(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    base, adapter = small_base(tmp_path / "base"), small_adapter(tmp_path / "adapter", **changes)
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


class Hostile:
    """What an unpickler would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def torch_archive(path: Path, content: object) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("archive/byteorder", b"little")


@pytest.mark.parametrize("place", ["alone", "among tensors"])
def test_a_hostile_pickle_is_refused_and_never_run(tmp_path: Path, place: str) -> None:
    mark = tmp_path / "was-run"
    content = Hostile(mark)
    path = tmp_path / "adapter_model.bin"
    torch_archive(path, content if place == "alone" else collections.OrderedDict(a=content))
    with pytest.raises(DamagedError, match=r"is refused: it asks for (posix|nt)\.system"):
        TorchFile(path)
    assert not mark.exists()


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
    with pytest.raises(DamagedError, match="has no whole storage"):
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
    with pytest.raises(ConvertError, match="is there already"):
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


@pytest.mark.parametrize("text", ["", "5 XB", "-1GB", "0"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(f"'{text}' is not a size")):
        parse_size(text)


def test_sizes() -> None:
    assert [parse_size(t) for t in ("5GB", "1.5 MiB", "7")] == [5 * 10**9, 3 * 2**19, 7]


def test_shards_hold_what_the_single_file_held(tmp_path: Path) -> None:
    base = sharded(tmp_path)
    with SafetensorsFolder(tmp_path / "base") as one, SafetensorsFolder(base) as many:
        assert one.infos == many.infos
        for name, info in one.infos.items():
            assert (one.read(name, 0, info.rows) == many.read(name, 0, info.rows)).all()
