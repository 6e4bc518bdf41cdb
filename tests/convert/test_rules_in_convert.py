"""What a build publishes keeps every rule; what would break one is said before, with its place."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from assistants import House
from convert.errors import AdapterError, BuildError, ConvertError, FetchError, UnsupportedError
from convert.plan import Engine
from convert.progress import Unwatched
from convert.run import build, plans
from convert.verify import verify
from tests.convert.making import MINI, house, small_adapter
from tests.convert.quantize.conftest import Make, dialogues, make_model

__all__ = ["dialogues", "make_model"]  # fixtures
YAML = "assistants/one.yaml:1: "


@pytest.mark.parametrize("engine", ["turbomind", "llamacpp"])
def test_without_a_chat_template_nothing_is_published(
    mini: House, tmp_path: Path, engine: Engine
) -> None:
    (tmp_path / "mini" / "chat_template.jinja").unlink()
    path = tmp_path / "mini" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["chat_template"]
    path.write_text(json.dumps(config))
    said = r"rule 16 of hanlin verify, chat template.*base's folder.*build again"
    with pytest.raises(BuildError, match=said) as caught:
        build(mini, engine=engine, workspaces=tmp_path / "ws")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "ws" / "one").iterdir()) == []


def test_a_model_is_refused_before_hours_of_quantising(
    make_model: Make, dialogues: Path, tmp_path: Path
) -> None:
    class Labels(Unwatched):
        seen: list[str] = []  # noqa: RUF012 - of this test alone

        def task(self, label: str, total_bytes: int | None) -> Unwatched:
            self.seen.append(label)
            return self

    base = make_model(rope_scaling={"rope_type": "longrope"})
    wanted = {"quantize": "awq", "calibration": str(dialogues)}
    made = house(tmp_path / "assistants", base=str(base), turbomind=wanted)
    with pytest.raises(BuildError, match=r"rule 10 .*longrope"):
        build(made, engine="turbomind", workspaces=tmp_path / "ws", progress=Labels())
    assert Labels.seen == ["one"]  # the merge, and no layer after it
    assert list((tmp_path / "ws" / "one").iterdir()) == []  # nor is the merged model left there


def test_a_base_in_four_bits_is_served_as_it_is(
    make_model: Make, dialogues: Path, tmp_path: Path
) -> None:
    from convert.quantize import Settings, quantize

    pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
    settings = Settings(samples=8, seqlen=64, threads=1, limit=None)
    quantize(make_model(), tmp_path / "base", calibration=dialogues, settings=settings)
    made = house(tmp_path / "assistants", base=str(tmp_path / "base"))
    (built,) = build(made, engine="turbomind", workspaces=tmp_path / "ws")
    told = json.loads((built.folder / "engine.json").read_text())
    assert (told["model_format"], told["declared"]["quantize"]) == ("awq", "none")
    report = verify(built.folder, loader=False)
    assert report.ok, list(report.findings)


@pytest.mark.parametrize(("engine", "key"), [("turbomind", "session_len"), ("llamacpp", "context")])
def test_no_longer_than_the_model(tmp_path: Path, engine: Engine, key: str) -> None:
    """A default is cut to what the model has; a number somebody wrote is refused where it stands,
    before anything is built."""
    config = json.loads((MINI / "config.json").read_text())
    assert config["max_position_embeddings"] == 1024
    ws = tmp_path / "ws"
    (built,) = build(house(tmp_path / "a", base="hanlin-mini"), engine=engine, workspaces=ws)
    assert json.loads((built.folder / "engine.json").read_text())[key] == 1024
    long = house(tmp_path / "a", base="hanlin-mini", **{engine: {key: 2048}})
    with pytest.raises(BuildError, match=rf"a/one\.yaml:1: {engine}\.{key} is 2048.* 1024 or less"):
        plans(long, engine=engine, workspaces=ws)


def test_what_is_missing_is_said_with_its_line(tmp_path: Path) -> None:
    def said(**model: str) -> str:
        made = house(tmp_path / "assistants", **model)
        with pytest.raises(FetchError) as caught:
            plans(made, engine="llamacpp", workspaces=tmp_path / "ws")
        return str(caught.value)

    assert YAML in said(base="hanlin-mimi")
    assert said(base="hanlin-mimi").endswith(f"did you mean {MINI}?")
    assert said(base="Qwen/Qwen3-8B").endswith("write hf://Qwen/Qwen3-8B@<commit>.")
    assert YAML in said(base="hanlin-mini", adapter="checkpoints/iter_5.pth")
    assert "hf://" not in said(base="hanlin-mini", adapter="checkpoints/iter_5.pth")


def test_an_adapter_is_called_as_it_was_declared(tmp_path: Path) -> None:
    """Not by the folder that a checkpoint is read into."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
    from tests.convert.made_checkpoints import CONFIG, xtuner_file

    at = "llm.base_model.model.model.layers.0.self_attn.q_proj.lora_{}.default.weight"
    state = {at.format("A"): torch.ones(4, 32), at.format("B"): torch.ones(32, 4)}
    checkpoint = xtuner_file(tmp_path / "iter_8.pth", state, CONFIG)
    made = house(tmp_path / "assistants", base="hanlin-mini", adapter=str(checkpoint))
    with pytest.raises(AdapterError, match=rf"{YAML}The adapter {checkpoint} belongs to another"):
        build(made, engine="llamacpp", workspaces=tmp_path / "ws")


def test_without_torch_nothing_is_fetched_or_merged(
    tmp_path: Path, dialogues: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    wanted = {"quantize": "awq", "calibration": str(dialogues)}
    made = house(tmp_path / "assistants", base="hf://Qwen/Qwen3-8B@main", turbomind=wanted)
    with pytest.raises(UnsupportedError, match=f"{sys.executable} -m pip install torch"):
        build(made, engine="turbomind", workspaces=tmp_path / "ws")
    assert not (tmp_path / "ws").exists()
    assert plans(made, engine="turbomind", workspaces=tmp_path / "ws")


def test_a_folder_that_is_no_workspace(mini: House, tmp_path: Path) -> None:
    (built,) = build(mini, engine="llamacpp", workspaces=tmp_path / "ws")
    for folder in (tmp_path / "ws", tmp_path / "ws" / "one"):
        with pytest.raises(ConvertError, match=f"no workspace .* there is {built.folder}"):
            verify(folder)
    with pytest.raises(ConvertError, match="hanlin convert makes one"):
        verify(tmp_path / "mini")


def test_folders_of_a_merge_that_are_not_there(tmp_path: Path) -> None:
    from convert.merged_folder import merge

    adapter = small_adapter(tmp_path / "adapter")
    with pytest.raises(FetchError, match=f"no folder .*; did you mean {MINI}"):
        merge(tmp_path / "hanlin-mini", adapter, tmp_path / "out")
    with pytest.raises(FetchError, match=f"no folder .*; did you mean {adapter}"):
        merge(MINI, tmp_path / "adaptor", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
