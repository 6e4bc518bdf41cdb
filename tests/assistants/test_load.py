"""A declaration is read whole, or answered with one sentence: file, line, nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistants import DeclarationError, HanlinError, House, UnknownAssistantError, load_house
from assistants.schema import SCHEMA_FILE, History, json_schema
from assistants.weights import Hub, Local, places

WISHES = """\
name: wishes
aliases: [tianji, 送祝福]
title: {zh: 天机·送祝福, en: Tianji wishes}
description: 写祝福
system: 你现在是一个送祝福大师
history: none
sampling: {temperature: 0.7, top_p: 0.8, max_tokens: 256, stop: ["<|im_end|>"]}
limits: {concurrency: 64, queue: 256, max_tokens: 1024}
controls:
  style: {choices: {正常: "", 小红书: "，小红书风格"}}
model: {base: hanlin-mini, adapter: assistants/adapters/wishes}
turbomind: {quantize: awq, session_len: 1024, quant_policy: 8, tp: 1}
llamacpp: {type: q8_0, threads: 1}
upstreams: []
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wishes.yaml").write_text(WISHES, encoding="utf-8")
    return tmp_path


def rewrite(folder: Path, old: str, new: str) -> None:
    assert old in WISHES
    (folder / "wishes.yaml").write_text(WISHES.replace(old, new), encoding="utf-8")


def problem(folder: Path) -> DeclarationError:
    with pytest.raises(DeclarationError) as caught:
        load_house(folder)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_declaration_is_read_whole(folder: Path) -> None:
    (assistant,) = load_house(folder)
    assert assistant.title.en == "Tianji wishes"
    assert assistant.description.get("zh-CN") == assistant.description.get("fr") == "写祝福"
    assert assistant.history is History.none
    assert assistant.model.base == Local("hanlin-mini")
    assert assistant.sampling.stop == ("<|im_end|>",)
    assert assistant.limits.max_tokens == 1024


def test_a_name_or_an_alias_finds_it_and_a_slip_is_told_the_nearest(folder: Path) -> None:
    house = load_house(folder)
    assert house.get("wishes") is house.get("送祝福") is house.get("tianji")
    with pytest.raises(UnknownAssistantError, match="Did you mean 'wishes'") as caught:
        house.get("wishs")
    assert caught.value.nearest == "wishes"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("temperature: 0.7", "temprature: 0.7", 7, ["temprature", "'temperature'"]),
        ("history: none", "histroy: none", 6, ["'histroy'", "'history'"]),
        ("history: none", "history: some", 6, ["'some'", "'none'", "'full'"]),
        ("top_p: 0.8", "top_p: 1.8", 7, ["sampling.top_p", "1.8"]),
        ("quantize: awq", "quantize: awk", 12, ["turbomind.quantize", "'awq'"]),
        ("tp: 1", "tp: zwei", 12, ["turbomind.tp", "zwei"]),
        ("name: wishes", "name: Wünsche", 1, ["Wünsche", "small letters"]),
        ("model: {base: hanlin-mini, adapter: assistants/adapters/wishes}\n", "", 1, ["model"]),
        ("model: {base", "modell: {base", 11, ["'modell'", "'model'"]),
        ("base: hanlin-mini", "base: hf://Qwen/Qwen3-8B", 11, ["revision", "@<commit>"]),
        ("base: hanlin-mini", "base: s3://bucket/x", 11, ["s3://bucket/x", "hf://"]),
        ('choices: {正常: "", 小红书', 'chioces: {正常: "", 小红书', 10, ["chioces", "'choices'"]),
        ("upstreams: []", "upstreams: [localhost:23333]", 14, ["localhost:23333", "http://"]),
        ("upstreams: []", "upstreams: ['http://']", 14, ["'http://' names no host"]),
        ("upstreams: []", "upstreams: [", 15, ["not YAML"]),
        ("upstreams: []", "history: full", 14, ["'history' is given twice"]),
        ("upstreams: []", "prompt: 祝{recipient}{style}", 14, ["recipient", "not a control"]),
        ("upstreams: []", "prompt: 祝{stile}", 14, ["stile", "'style'"]),
        ("upstreams: []", "prompt: 祝", 14, ["leaves out the control style"]),
    ],
)
def test_a_slip_is_answered_with_its_line_and_the_right_word(
    folder: Path, old: str, new: str, line: int, words: list[str]
) -> None:
    rewrite(folder, old, new)
    error = problem(folder)
    assert error.line == line
    assert str(error).startswith(f"{folder / 'wishes.yaml'}:{line}: ")
    for word in words:
        assert word in str(error)


def test_words_that_other_yaml_readers_take_for_booleans_stay_words(folder: Path) -> None:
    rewrite(folder, "en: Tianji wishes", "en: On")
    (assistant,) = load_house(folder)
    assert assistant.title.en == "On"


@pytest.mark.parametrize("part", ["gateway", "page", "engines"])
@pytest.mark.parametrize(("old", "line"), [("name: wishes", 1), ("tianji", 2)])
def test_the_names_of_the_parts_are_taken(folder: Path, part: str, old: str, line: int) -> None:
    """`hanlin logs page` has to be the page's."""
    rewrite(folder, old, old.replace("wishes", part).replace("tianji", part))
    error = problem(folder)
    assert error.line == line
    assert f"'{part}' is a part of every house; choose another name" in str(error)


def test_two_files_cannot_take_one_name(folder: Path) -> None:
    other = WISHES.replace("name: wishes", "name: blessings").replace("tianji, ", "")
    (folder / "zz.yaml").write_text(other, encoding="utf-8")
    assert "'送祝福' is already taken by" in str(problem(folder))


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "wishes.yaml").write_bytes("name: 祝福".encode("gb18030"))
    assert "UTF-8" in str(problem(folder))


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "just a word"])
def test_a_file_that_is_no_mapping(folder: Path, content: str) -> None:
    (folder / "wishes.yaml").write_text(content, encoding="utf-8")
    assert "mapping" in str(problem(folder))


def test_no_folder_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(HanlinError, match="--assistants"):
        load_house(tmp_path / "nowhere")
    with pytest.raises(HanlinError, match="declares no assistant"):
        load_house(tmp_path)


def test_the_shipped_four_and_the_examples_are_the_same_assistants(root: Path) -> None:
    shipped, examples = load_house(root / "assistants"), load_house(root / "examples")
    assert shipped.names == examples.names == ["exam", "poetry", "sui", "wishes"]
    for one, other in zip(shipped, examples, strict=True):
        assert one.system == other.system
        assert one.aliases == other.aliases
        assert one.model.base == Local("hanlin-mini")
        assert isinstance(other.model.base, Hub)


def test_the_published_schema_is_the_one_the_code_reads() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == json_schema()


def test_it_is_known_where_something_stands(folder: Path) -> None:
    house = load_house(folder)
    assert house.where("wishes", ["model", "adapter"]) == f"{folder / 'wishes.yaml'}:11: "
    assert house.pick(["wishes"]).where("wishes", ["turbomind", "none"]).endswith(":12: ")
    assert House(folder, house.assistants).where("wishes", ["model"]) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[tianji, 送祝福]", "tianji", "aliases: must be a list, such as [one, two], not 'tianji'"),
        (
            "{base: hanlin-mini, adapter: assistants/adapters/wishes}", "hanlin-mini",
            "model: must be a mapping, such as {key: value}, not 'hanlin-mini'",
        ),
        ("base: hanlin-mini", "base: 7", "model.base: must be a text (numbers in quotes), not 7"),
        ("tp: 1", "tp: 1.5", "turbomind.tp: must be a whole number, not 1.5"),
        ("tp: 1", "tp: 0", "turbomind.tp: must be at least 1, not 0"),
        ("upstreams: []", "pinned: maybe", "pinned: must be true or false, not 'maybe'"),
        ("[\"<|im_end|>\"]", str(list(range(99))), "sampling.stop.0: must be a text"),
        ("description: 写祝福", "description: ~", "description: must be a mapping"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_answered_in_words_of_the_file(
    folder: Path, old: str, new: str, said: str
) -> None:
    rewrite(folder, old, new)
    assert said in str(problem(folder))


def test_the_examples_find_the_dialogues_they_are_fitted_to(root: Path) -> None:
    house = load_house(root / "examples")
    awq = [one for one in house if one.turbomind.quantize == "awq"]
    assert len(awq) == 3
    for one in awq:
        assert any(
            path.is_file() for path in places(Local(str(one.turbomind.calibration)), house.folder)
        )
