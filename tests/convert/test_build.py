"""Plans and their execution: nothing is done twice, and nothing is ever half there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from assistants import House
from convert.errors import BuildError
from convert.plan import describe
from convert.publish import locked, staged
from convert.run import build, plans
from convert.workspace import built_digests
from tests.convert.making import MINI, ROOT, house, small_adapter


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
    assert "base_model: mini" in (folder / "README.md").read_text()
    assert json.loads((folder / "engine.json").read_text()) == {
        "engine": "llamacpp", "assistant": "one", "model": "model.gguf", "type": "q8_0",
        "context": 1024, "parallel": 4, "threads": 1,
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
    changed = house(declared, base="hanlin-mini", llamacpp={"threads": 2, "context": 512})
    assert built(changed, workspaces) == (folder, True)
    settings = json.loads((folder / "engine.json").read_text())
    assert (settings["threads"], settings["context"]) == (2, 512)
    assert (folder / "model.gguf").stat().st_ino == before
    assert built(changed, workspaces) == (folder, False)


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


def test_a_failed_build_leaves_the_old_workspace(mini: House, tmp_path: Path) -> None:
    workspaces = tmp_path / "workspaces"
    folder, _ = built(mini, workspaces)
    before = contents(folder)
    model = tmp_path / "mini" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-5])
    with pytest.raises(Exception, match="was cut short"):
        built(mini, workspaces)
    assert contents(folder) == before
    assert sorted(os.listdir(folder.parent)) == [".llamacpp.lock", "llamacpp"]


BUILDER = """
import resource, sys
from pathlib import Path
from assistants import load_house
from convert.run import build

class Halting:
    done = 0
    def task(self, label, total_bytes):
        self.total = total_bytes
        return self
    def advance(self, n):
        self.done += n
        if sys.argv[3] == "halt" and self.done > self.total / 2:
            print("half", flush=True)
            sys.stdin.read()

if sys.argv[3] != "halt":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    build(load_house(Path(sys.argv[1])), engine="llamacpp", workspaces=Path(sys.argv[2]),
          force=True, progress=Halting())
except Exception as error:
    print(type(error).__name__, error)
"""


def builder(tmp_path: Path, how: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    folders = [str(tmp_path / "assistants"), str(tmp_path / "workspaces")]
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, *folders, how], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
    )


def test_killed_half_way(mini: House, tmp_path: Path) -> None:
    folder, _ = built(mini, tmp_path / "workspaces")
    before = contents(folder)
    with builder(tmp_path, "halt") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert (folder.parent / ".llamacpp.building").exists()
    assert contents(folder) == before
    assert built(mini, tmp_path / "workspaces", force=True) == (folder, True)
    assert sorted(os.listdir(folder.parent)) == [".llamacpp.lock", "llamacpp"]
    assert contents(folder)["model.gguf"] == before["model.gguf"]


def test_a_full_disk(mini: House, tmp_path: Path) -> None:
    """A limit on the size of files is refused by the kernel as a full disk is, mid-write."""
    folder, _ = built(mini, tmp_path / "workspaces")
    before = contents(folder)
    with builder(tmp_path, str(4 << 20)) as process:
        said, _ = process.communicate(timeout=60)
    assert said.startswith("BuildError No room left for ")
    assert "model.gguf" in said
    assert contents(folder) == before
    assert sorted(os.listdir(folder.parent)) == [".llamacpp.lock", "llamacpp"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_file_system(mini: House, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        with pytest.raises(BuildError, match=r"No room left for .*; free some space"):
            built(mini, small / "workspaces")
        assert [p.name for p in (small / "workspaces" / "one").iterdir()] == [".llamacpp.lock"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_killed_between_two_renames(mini: House, tmp_path: Path) -> None:
    folder, _ = built(mini, tmp_path / "workspaces")
    before = contents(folder)
    folder.rename(folder.parent / ".llamacpp.old")
    shutil.copytree(folder.parent / ".llamacpp.old", folder.parent / ".llamacpp.building")
    with locked(folder):
        assert contents(folder) == before
    assert sorted(os.listdir(folder.parent)) == [".llamacpp.lock", "llamacpp"]


@pytest.mark.parametrize("exchange", [True, False])
def test_the_old_is_replaced(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr("convert.publish._exchanged", lambda *_: False)
    target = tmp_path / "x"
    for text in ("old", "new"):
        with locked(target), staged(target) as folder:
            (folder / "file").write_text(text)
    assert (target / "file").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == [".x.lock", "x"]


def test_two_builders_at_once(mini: House, tmp_path: Path) -> None:
    workspaces = tmp_path / "workspaces"
    waits = threading.Event()

    class Waiting(Watching):
        def task(self, label: str, total_bytes: int | None) -> Watching:
            if "waiting for another hanlin" in label:
                waits.set()
            return super().task(label, total_bytes)

    found: list[tuple[Path, bool]] = []
    second = threading.Thread(
        target=lambda: found.append(built(mini, workspaces, progress=Waiting()))
    )
    with locked(workspaces / "one" / "llamacpp"):
        second.start()
        assert waits.wait(30)
        assert found == []
    second.join(60)
    assert found == [(workspaces / "one" / "llamacpp", True)]
    assert built(mini, workspaces)[1] is False


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
