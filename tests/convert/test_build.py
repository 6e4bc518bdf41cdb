"""Plans and their execution: nothing is done twice, and nothing is ever half there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from assistants import House
from convert.digests import Remembered, of_file
from convert.plan import describe
from convert.run import build, plans
from convert.workspace import built_digests
from tests.convert.making import MINI, house, small_adapter


class Watching:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.total = 0
        self.done = 0

    def task(self, label: str, total_bytes: int | None) -> Watching:
        self.labels.append(label)
        self.total += total_bytes or 0
        return self

    def advance(self, n: int) -> None:
        self.done += n


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def built(made: House, workspaces: Path, **options: object) -> tuple[Path, bool]:
    (workspace,) = build(made, engine="llamacpp", workspaces=workspaces, **options)  # type: ignore[arg-type]
    return workspace.folder, workspace.rebuilt


def test_a_workspace_is_complete_and_says_where_it_comes_from(mini: House, tmp_path: Path) -> None:
    watching = Watching()
    folder, rebuilt = built(mini, tmp_path / "workspaces", progress=watching)
    assert rebuilt
    assert folder == tmp_path / "workspaces" / "one" / "llamacpp"
    assert watching.labels == ["one"]
    assert watching.done == watching.total > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["files"]) | {"manifest.json"} == set(os.listdir(folder))
    for name, file in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"], name
        assert len(content) == file["size"]
    config = json.loads((MINI / "config.json").read_text())
    per_layer = config["num_key_value_heads"] * config["head_dim"] * 2 * 2
    assert manifest["memory"]["kv_per_token"] == config["num_hidden_layers"] * per_layer
    assert manifest["tensors"]["bytes"] == watching.total
    assert manifest["lineage"]["base"]["reference"] == str(tmp_path / "mini")
    assert manifest["lineage"]["adapter"] is None
    told = (folder / "README.md").read_text()
    assert "base_model: mini\nbase_model_relation: quantized\n" in told
    assert json.loads((folder / "engine.json").read_text()) == {
        "engine": "llamacpp", "assistant": "one", "model": "model.gguf", "type": "q8_0",
        "context": 1024, "parallel": 4, "threads": 1,
        "declared": {"type": "q8_0", "context": 1024, "parallel": 4, "threads": 1},
    }  # fmt: skip


def test_the_second_run_does_nothing(mini: House, tmp_path: Path) -> None:
    folder, _ = built(mini, tmp_path / "workspaces")
    before = folder.stat().st_ino
    watching = Watching()
    assert built(mini, tmp_path / "workspaces", progress=watching) == (folder, False)
    assert watching.labels == []
    assert folder.stat().st_ino == before
    assert built(mini, tmp_path / "workspaces", force=True) == (folder, True)


def test_new_settings_do_not_make_new_weights(tmp_path: Path) -> None:
    workspaces = tmp_path / "workspaces"
    declared = tmp_path / "assistants"
    folder, _ = built(house(declared, base="hanlin-mini"), workspaces)
    before = (folder / "model.gguf").stat().st_ino
    old, kept = (folder / "engine.json").read_text(), tmp_path / "kept.json"
    os.link(folder / "engine.json", kept)
    changed = house(declared, base="hanlin-mini", llamacpp={"threads": 2, "context": 512})
    assert built(changed, workspaces) == (folder, True)
    settings = json.loads((folder / "engine.json").read_text())
    assert (settings["threads"], settings["context"]) == (2, 512)
    assert (folder / "model.gguf").stat().st_ino == before
    assert kept.read_text() == old  # made anew, and not written through to the old workspace
    assert built(changed, workspaces) == (folder, False)


def test_another_type_makes_other_weights(tmp_path: Path) -> None:
    workspaces, declared = tmp_path / "workspaces", tmp_path / "assistants"
    folder, _ = built(house(declared, base="hanlin-mini"), workspaces)
    small = (folder / "model.gguf").stat().st_size
    changed = house(declared, base="hanlin-mini", llamacpp={"type": "f16"})
    assert built(changed, workspaces) == (folder, True)
    assert (folder / "model.gguf").stat().st_size > 1.5 * small
    lineage = json.loads((folder / "manifest.json").read_text())["lineage"]
    assert lineage["gguf"]["type"] == "f16"
    assert "base_model_relation: merge\n" in (folder / "README.md").read_text()


def test_a_workspace_of_another_schema_is_built_again(mini: House, tmp_path: Path) -> None:
    folder, _ = built(mini, tmp_path / "workspaces")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 0}))
    assert built(mini, tmp_path / "workspaces") == (folder, True)


def test_what_changes_the_weights_is_noticed(mini: House, tmp_path: Path) -> None:
    workspaces = tmp_path / "workspaces"
    folder, _ = built(mini, workspaces)
    before = built_digests(folder)
    path = tmp_path / "mini" / "tokenizer_config.json"
    path.write_text(path.read_text() + "\n")
    (plan,) = plans(mini, engine="llamacpp", workspaces=workspaces)
    assert [step.verb for step in plan.steps if not step.built] == ["merge", "gguf", "assemble"]
    assert "to do" in describe(plan)
    assert built(mini, workspaces)[1]
    assert built_digests(folder) != before


def test_a_damaged_workspace_is_built_again(mini: House, tmp_path: Path) -> None:
    folder, _ = built(mini, tmp_path / "workspaces")
    (folder / "model.gguf").write_bytes(b"short")
    assert built(mini, tmp_path / "workspaces") == (folder, True)
    assert (folder / "model.gguf").stat().st_size > 10**6


def test_a_dry_run_changes_nothing(mini: House, tmp_path: Path) -> None:
    (plan,) = plans(mini, engine="llamacpp", workspaces=tmp_path / "workspaces")
    assert not plan.done
    assert not (tmp_path / "workspaces").exists()


def test_an_assistant_served_elsewhere_is_not_built(tmp_path: Path) -> None:
    made = house(tmp_path / "a", base="hanlin-mini", upstreams=["http://10.0.0.1:23333"])
    assert build(made, engine="llamacpp", workspaces=tmp_path / "workspaces") == []


def test_a_workspace_for_turbomind(mini: House, tmp_path: Path) -> None:
    (workspace,) = build(mini, engine="turbomind", workspaces=tmp_path / "workspaces")
    settings = json.loads((workspace.folder / "engine.json").read_text())
    assert settings["model_format"] == "hf"
    assert settings["dtype"] == "bfloat16"
    source = (tmp_path / "mini" / "config.json").read_bytes()
    assert (workspace.folder / "config.json").read_bytes() == source
    assert (workspace.folder / "model.safetensors").exists()


def test_files_that_change_names_are_other_files(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a")
    before = Remembered(tmp_path / "known").of_files([tmp_path / "one"])
    (tmp_path / "one").rename(tmp_path / "two")
    assert Remembered(tmp_path / "known").of_files([tmp_path / "two"]) != before


def test_what_was_hashed_once_is_not_read_again(
    mini: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reading(path: Path) -> str:
        read.append(path.name)
        return of_file(path)

    monkeypatch.setattr("convert.digests.of_file", reading)
    built(mini, tmp_path / "workspaces")
    assert "model.safetensors" in read
    read.clear()
    assert built(mini, tmp_path / "workspaces")[1] is False
    assert read == []
    model = tmp_path / "mini" / "model.safetensors"
    os.utime(model, ns=(1, 1))  # perhaps changed, and of the same size
    assert built(mini, tmp_path / "workspaces")[1] is False
    assert read == ["model.safetensors"]


def test_an_adapter_changes_the_weights(tmp_path: Path) -> None:
    import numpy as np

    from tests.convert.making import write_safetensors

    size = json.loads((MINI / "config.json").read_text())["hidden_size"]
    adapter = small_adapter(tmp_path / "adapter")
    prefix = "base_model.model.model.layers.0.self_attn.o_proj.lora_"
    factors = {f"{prefix}A.weight": np.ones((4, size)), f"{prefix}B.weight": np.ones((size, 4))}
    write_safetensors(adapter / "adapter_model.safetensors", factors, "F32")
    plain, _ = built(house(tmp_path / "a", base="hanlin-mini"), tmp_path / "plain")
    made = house(tmp_path / "b", base="hanlin-mini", adapter=str(adapter))
    tuned, _ = built(made, tmp_path / "tuned")
    assert (plain / "model.gguf").read_bytes() != (tuned / "model.gguf").read_bytes()
    lineage = json.loads((tuned / "manifest.json").read_text())["lineage"]
    assert lineage["adapter"]["reference"] == str(adapter)
    before = (tuned / "model.gguf").read_bytes()
    factors[f"{prefix}B.weight"] *= -1
    write_safetensors(adapter / "adapter_model.safetensors", factors, "F32")
    assert built(made, tmp_path / "tuned") == (tuned, True)
    assert (tuned / "model.gguf").read_bytes() != before
