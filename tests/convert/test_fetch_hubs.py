"""Training checkpoints on hubs, and ModelScope's real client, against stand-ins on loopback."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from assistants.weights import Hub  # noqa: E402
from convert.errors import FetchError  # noqa: E402
from convert.fetch.fetcher import Fetcher  # noqa: E402
from convert.progress import Unwatched  # noqa: E402
from convert.weights.model_folder import opened  # noqa: E402
from tests.convert.hub_client import fetched, run  # noqa: E402
from tests.convert.hub_stub import COMMIT, FILES, NEEDED, HubStub, ModelScopeStub, serving  # noqa: E402
from tests.convert.made_checkpoints import CONFIG, xtuner_file  # noqa: E402
from tests.convert.making import house  # noqa: E402

BUILD = """
import sys
from pathlib import Path
from assistants import load_house
from convert.run import build
from convert.verify import staged

staged.RULES = ()  # the model is too small for any engine
for _ in range(2):  # the second time nothing is left to do
    (done,) = build(load_house(Path(sys.argv[1])), engine="turbomind", workspaces=Path(sys.argv[2]))
    print(done.rebuilt, done.folder)
"""


@pytest.mark.parametrize(("hub", "name"), [("hf", "iter_24.pth"), ("modelscope", "wishes.pth")])
def test_xtuners_checkpoint_on_a_hub(models: Path, tmp_path: Path, hub: str, name: str) -> None:
    """The reference of an assistant's adapter may name a repository with a `.pth` in it."""
    needs_client(hub)
    base = models / "tiny-qwen2"
    factor = np.random.default_rng(3).standard_normal
    at = "llm.base_model.model.model.layers.0.self_attn.q_proj"
    state = {
        f"{at}.lora_A.default.weight": torch.tensor(factor((4, 128)), dtype=torch.float32),
        f"{at}.lora_B.default.weight": torch.tensor(factor((128, 4)), dtype=torch.float32),
    }
    checkpoint = xtuner_file(tmp_path / "work" / name, state, CONFIG)
    house(tmp_path / "near", base=str(base), adapter=str(checkpoint))
    house(tmp_path / "far", base=str(base), adapter=f"{hub}://owner/tune@{COMMIT}")
    files = {name: checkpoint.read_bytes(), "iter_8.pth.txt": b"", "README.md": b"# card"}
    kind = HubStub if hub == "hf" else ModelScopeStub
    with serving(kind("owner/tune", files)) as stub:
        near = run(tmp_path, stub.url, BUILD, str(tmp_path / "near"), str(tmp_path / "w1"))
        assert not stub.asked
        far = run(tmp_path, stub.url, BUILD, str(tmp_path / "far"), str(tmp_path / "w2"))
    for built in (near, far):
        assert [line.split()[0] for line in built] == ["True", "False"]
    at = "model.layers.0.self_attn.q_proj.weight"
    ours, theirs = (tensor(Path(built[0].split()[1]), at) for built in (near, far))
    assert np.array_equal(ours, theirs)
    assert not np.array_equal(ours, tensor(base, at))


def tensor(folder: Path, name: str) -> np.ndarray:
    with opened(folder) as source:
        return np.asarray(source.read(name, 0, source.infos[name].rows))


def needs_client(hub: str) -> None:
    if hub == "modelscope":
        pytest.importorskip("modelscope_hub", reason="ModelScope's client is not installed")


def test_a_repository_of_modelscope(tmp_path: Path) -> None:
    needs_client("modelscope")
    with serving(ModelScopeStub("owner/name", FILES)) as stub:
        said = fetched(tmp_path, stub.url, f"modelscope://owner/name@{COMMIT}")
        folder = Path(said["path"])
        assert {path.name for path in folder.iterdir() if path.is_file()} >= NEEDED
        assert not (folder / "README.md").exists()
        assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        assert said["task"] == "fetching owner/name"
        assert int(said["bytes"]) >= 1 << 20
        stub.asked.clear()
        again = fetched(tmp_path, stub.url, f"modelscope://owner/name@{COMMIT}")
        assert again["path"] == said["path"]
        assert stub.asked == []


def test_modelscopes_download_that_breaks_goes_on(tmp_path: Path) -> None:
    needs_client("modelscope")
    large = FILES | {"model.safetensors": os.urandom(5 << 20)}
    with serving(ModelScopeStub("owner/name", large)) as stub:
        stub.hang_up_on = "FilePath=model.safetensors"
        said = fetched(tmp_path, stub.url, f"modelscope://owner/name@{COMMIT}")
    content = (Path(said["path"]) / "model.safetensors").read_bytes()
    assert content == large["model.safetensors"]


def test_a_repository_that_modelscope_does_not_have(tmp_path: Path) -> None:
    needs_client("modelscope")
    with serving(ModelScopeStub("owner/name", FILES)) as stub:
        said = fetched(tmp_path, stub.url, "modelscope://owner/nome@main")
    assert said["error"] == (
        "modelscope://owner/nome@main cannot be fetched from ModelScope: "
        "there is no such repository or revision 'main'."
    )


def test_modelscope_cannot_be_reached(tmp_path: Path) -> None:
    needs_client("modelscope")
    said = fetched(tmp_path, "http://127.0.0.1:9", "modelscope://owner/name@main")
    assert "cannot be fetched from ModelScope: the hub cannot be reached" in said["error"]


def test_modelscope_without_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    given = Hub("modelscope", "Qwen/Qwen3-8B", "v1")
    with pytest.raises(FetchError, match="pip install modelscope-hub"):
        Fetcher(tmp_path, Unwatched()).fetch(given, tmp_path)
