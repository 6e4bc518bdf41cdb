"""Damage of every kind, as a person meets it: one sentence, exit code 1, and nothing changed."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convert.merged_folder import merge
from hanlin.__main__ import main
from tests.convert.making import ROOT, small_adapter, small_base, write_safetensors

pytestmark = pytest.mark.usefixtures("any_model")

INDEX = "model.safetensors.index.json"
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
UP_PROJ = "base_model.model.model.layers.{}.mlp.up_proj.lora_"


class Place:
    """A sharded base, an adapter, a house that names both, and its workspaces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base, self.adapter = folder / "base", small_adapter(folder / "adapter")
        whole = small_base(folder / "whole")
        sizes = {
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "hidden_size": 32,
        }  # fmt: skip
        config = json.loads((whole / "config.json").read_text())
        (whole / "config.json").write_text(json.dumps(config | sizes))
        merge(whole, None, self.base, max_shard_size=5000)
        self.shards = sorted(self.base.glob("*.safetensors"))
        assert len(self.shards) > 2
        (folder / "assistants").mkdir()
        model = {"base": str(self.base), "adapter": str(self.adapter)}
        declared = {"name": "one", "title": "One", "description": "One.", "model": model}
        (folder / "assistants" / "one.yaml").write_text(json.dumps(declared))

    def command(self, verb: str) -> list[str]:
        if verb == "merge":
            return ["merge", str(self.base), str(self.adapter), str(self.folder / "out")]
        folders = [f"--{name}={self.folder / name}" for name in ("assistants", "workspaces")]
        return ["convert", "--engine=turbomind", *folders]

    def contents(self) -> dict[str, bytes]:
        """Every file there is, but for remembered digests."""
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        names = {str(path.relative_to(self.folder)): path for path in paths}
        kept = {n: p for n, p in names.items() if ".cache" not in n}
        return {name: path.read_bytes() for name, path in kept.items()}

    def replace(self, old: str, new: str) -> None:
        """In the headers of the shards; as long as it was."""
        assert len(old) == len(new)
        for shard in self.shards:
            shard.write_bytes(shard.read_bytes().replace(old.encode(), new.encode()))

    def reindex(self, old: str, new: str) -> None:
        text = (self.base / INDEX).read_text()
        assert old in text
        (self.base / INDEX).write_text(text.replace(old, new))

    def spoil(self, value: float) -> None:
        """One number of the first shard, all but its last two bytes being as they were."""
        bits = np.array([value], np.float32).view(np.uint32) >> 16
        content = self.shards[0].read_bytes()
        self.shards[0].write_bytes(content[:-2] + bits.astype("<u2").tobytes())

    def factors(self, at: str, a: np.ndarray, b: np.ndarray) -> None:
        found = {f"{at}A.weight": a, f"{at}B.weight": b}
        write_safetensors(self.adapter / "adapter_model.safetensors", found, "F32")

    def hostile(self, folder: Path, name: str, *, alone: bool) -> None:
        """In place of the weights an archive whose pickle would leave a file behind."""
        for path in [*folder.glob("*.safetensors"), *folder.glob("*.index.json")]:
            path.unlink()
        command = Hostile(self.folder / "was-run")
        content = command if alone else OrderedDict(a=command)
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))


class Hostile:
    """What an unpickler would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def first_of(value: float) -> np.ndarray:
    made = np.ones((4, 32))
    made[0, 5] = value
    return made


def too_large_for_fp16(place: Place) -> None:
    for shard in place.shards:
        shard.write_bytes(shard.read_bytes().replace(b'"dtype":"BF16"', b'"dtype":"F16" '))
    place.factors(Q_PROJ, np.full((4, 32), 300.0), np.full((32, 4), 300.0))


def overlapping(place: Place) -> None:
    """One tensor lies inside another, and every size is right."""
    content = place.shards[-1].read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    end = header["lm_head.weight"]["data_offsets"][1]
    header["model.norm.weight"]["data_offsets"] = [end - 64, end]
    text = json.dumps(header).encode()
    place.shards[-1].write_bytes(len(text).to_bytes(8, "little") + text + content[begin:])


TALL = np.ones((96, 4))
DAMAGE: dict[str, tuple[Callable[[Place], object], str]] = {
    "truncated shard": (
        lambda p: cut(p.shards[1], -100), r"model-00002-of-\d+\.safetensors: was cut short"),
    "shard cut in its header": (
        lambda p: cut(p.shards[1], 40), "is not a safetensors file, or was cut short"),
    "empty shard": (lambda p: cut(p.shards[1], 0), "is not a safetensors file, or was cut short"),
    "longer shard": (
        lambda p: p.shards[1].write_bytes(p.shards[1].read_bytes() + b"x"), "short or added to"),
    "header of a wrong shape": (
        lambda p: p.replace('"shape":[96,32]', '"shape":[95,32]'), r"lies about model\.layers\.0"),
    "header of wrong offsets": (
        lambda p: p.replace("[0,6144]", "[0,6143]"), r"lies about model\.layers\.0"),
    "header of overlapping tensors": (overlapping, r"lies about lm_head\.weight"),
    "header of an unknown format": (
        lambda p: p.replace('"BF16"', '"BF61"'), "as BF61, an unknown format"),
    "header that is no JSON": (
        lambda p: p.replace('"shape"', '"shape '), "has a header that is not a safetensors header"),
    "missing shard": (
        lambda p: p.shards[1].unlink(), r"names the shard model-00002-of-\d+\.safetensors, which"),
    "index that points elsewhere": (
        lambda p: p.reindex('"model-00001', '"../model-00001'), "not plain file names"),
    "index of other tensors": (
        lambda p: p.reindex('"model.norm', '"model.form'), r"says that model\.form\.weight is in"),
    "index that is no JSON": (lambda p: p.reindex("{", "", ), "is not an index"),
    "NaN in the base": (lambda p: p.spoil(np.nan), r"embed_tokens\.weight .* not finite"),
    "infinity in the base": (lambda p: p.spoil(-np.inf), r"embed_tokens\.weight .* not finite"),
    "NaN in the adapter": (
        lambda p: p.factors(Q_PROJ, first_of(np.nan), np.ones((32, 4))),
        r"q_proj\.lora_A\.weight .* not finite"),
    "infinity in the adapter": (
        lambda p: p.factors(Q_PROJ, first_of(np.inf), np.ones((32, 4))),
        r"q_proj\.lora_A\.weight .* not finite"),
    "sum that fp16 cannot hold": (
        too_large_for_fp16, r"q_proj\.weight \(merged from base and adapter\) .* not finite"),
    "wrong rank": (
        lambda p: small_adapter(p.adapter, r=8), r"q_proj has factors of rank 4 and 4, .* says 8"),
    "other base by shape": (
        lambda p: p.factors(UP_PROJ.format(0), np.ones((4, 64)), np.ones((128, 4))),
        r"another base: it changes model\.layers\.0\.mlp\.up_proj\.weight as 128×64, .* 96×32"),
    "other base by name": (
        lambda p: p.factors(UP_PROJ.format(7), np.ones((4, 32)), TALL),
        r"another base: it changes model\.layers\.7\.mlp\.up_proj\.weight, which this base"),
    "truncated adapter": (
        lambda p: cut(p.adapter / "adapter_model.safetensors", -4), "was cut short"),
    "configuration that is no JSON": (
        lambda p: (p.base / "config.json").write_text("{"), r"config\.json: is not JSON"),
    "adapter configuration that is no JSON": (
        lambda p: cut(p.adapter / "adapter_config.json", -1), r"adapter_config\.json: is not JSON"),
    "hostile base": (
        lambda p: p.hostile(p.base, "pytorch_model.bin", alone=True),
        r"pytorch_model\.bin: is refused: it asks for (posix|nt)\.system"),
    "hostile adapter": (
        lambda p: p.hostile(p.adapter, "adapter_model.bin", alone=False),
        r"adapter_model\.bin: is refused: it asks for (posix|nt)\.system"),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["merge", "convert"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage(tmp_path: Path, damage: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(tmp_path)
    spoil, sentence = DAMAGE[damage]
    if verb == "convert":
        assert main(place.command(verb)) == 0  # the old workspace, which is to stay
    spoil(place)
    before = place.contents()
    capsys.readouterr()
    assert main(place.command(verb)) == 1
    said = capsys.readouterr().err
    assert re.search(sentence, said), said
    assert said.count("\n") == 1
    assert place.contents() == before
    assert not list(tmp_path.rglob("*.building"))


LIMITED = """
import resource, sys
from hanlin.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, -1))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("verb", ["merge", "convert"])
def test_a_full_disk(tmp_path: Path, verb: str) -> None:
    """A limit on the size of files is refused by the kernel as a full disk is, mid-write."""
    place = Place(tmp_path)
    if verb == "convert":
        assert main(place.command(verb)) == 0
        (place.base / "generation_config.json").write_text("{}")  # something to do again
    before = place.contents()
    command = [sys.executable, "-B", "-c", LIMITED, *place.command(verb)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert re.fullmatch(r"No room left for \S+model\.safetensors; free some .*\n", done.stderr)
    assert place.contents() == before
    assert not list(tmp_path.rglob("*.building"))


HALTING = """
import sys
from pathlib import Path
from convert.merged_folder import merge

class Halting:
    done = 0
    def task(self, label, total_bytes):
        self.total = total_bytes
        return self
    def advance(self, n):
        self.done += n
        if self.done > self.total / 2:
            print("half", flush=True)
            sys.stdin.read()

base, adapter, out = map(Path, sys.argv[1:])
merge(base, adapter, out, max_shard_size=5000, progress=Halting())
"""


def test_a_merge_killed_half_way(tmp_path: Path) -> None:
    place = Place(tmp_path)
    arguments = place.command("merge")[1:]
    command, pipe = [sys.executable, "-c", HALTING, *arguments], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.kill()
    assert (tmp_path / ".out.building").exists()
    assert not (tmp_path / "out").exists()
    merge(place.base, place.adapter, tmp_path / "out", max_shard_size=5000)
    merge(place.base, place.adapter, tmp_path / "again", max_shard_size=5000)
    assert not (tmp_path / ".out.building").exists()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()
    }
