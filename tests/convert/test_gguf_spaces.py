"""Spaces that nobody wrote, in llama.cpp: retired and Metaspace tokenizers give the same ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from convert.errors import UnsupportedError  # noqa: E402
from convert.gguf.spaces import (  # noqa: E402
    Habit,
    Spacing,
    spaced,
    spacing_in,
    spacing_of,
    written_out,
)
from convert.gguf.tokenizer import read_vocabulary  # noqa: E402
from convert.relayout.sentencepiece import read  # noqa: E402
from convert.run import build  # noqa: E402
from tests.convert import made_retired as made  # noqa: E402
from tests.convert.making import house, llama  # noqa: E402
from tests.convert.test_gguf import TEXTS, ids_of_llama, written  # noqa: E402
from tests.convert.test_gguf_layouts import greedy_of_llama, sentencepiece_folder  # noqa: E402

# transformers warns of itself
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("any_model")]

DIALOGUES = [
    [{"role": "user", "content": "我你好"}],
    [{"role": "user", "content": " a 我 "}],
    [{"role": "system", "content": "你是翰林"}, {"role": "user", "content": "a"},
     {"role": "assistant", "content": "我"}, {"role": "user", "content": "你好 <eoh>我"}],
]  # fmt: skip


def retired(tmp_path: Path, base: Path) -> Path:
    """What `hanlin convert` makes of an assistant on this base for llama.cpp."""
    assistants = house(tmp_path / "assistants", base=str(base), llamacpp={"type": "f32"})
    (done,) = build(assistants, engine="llamacpp", workspaces=tmp_path / "workspaces")
    return done.folder


def greedy(model: Callable[[Any], Any], ids: list[int], *, tokens: int) -> list[int]:
    out = list(ids)
    for _ in range(tokens):
        out.append(int(model(torch.tensor(out))[-1].argmax()))
    return out[len(ids) :]


def prompt_of(client: httpx.Client, turns: list[dict[str, str]]) -> list[int]:
    """The ids of a conversation, as the server makes them: the template, then the tokenizer."""
    prompt = client.post("/apply-template", json={"messages": turns}).json()["prompt"]
    ids = ids_of_llama(client, prompt)
    asked = {"messages": turns, "max_tokens": 1}
    used = client.post("/v1/chat/completions", json=asked).json()["usage"]
    assert used["prompt_tokens"] == len(ids)
    return ids


def test_internlm_v1_says_the_same(tmp_path: Path) -> None:
    base = made.internlm_folder(tmp_path / "base", max_position_embeddings=512)
    folder = retired(tmp_path, base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    weights = made.internlm_weights()
    with llama(folder / "model.gguf") as client:
        for turns in DIALOGUES:
            told = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
            assert prompt_of(client, turns) == told
            wanted = greedy(lambda ids: made.internlm(weights, ids), told, tokens=8)
            assert greedy_of_llama(client, told, 8) == wanted


def test_ids_of_internlm_v1_with_the_space_written_out(tmp_path: Path) -> None:
    folder = retired(tmp_path, made.internlm_folder(tmp_path / "base"))
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    own = [
        "我你好",
        "a<eoh>我",
        "<eoh>我",
        " 我",
        "  a",
        "a<eoa><eoh> 你",
        "\n<eoh>\n<|Bot|>:我你a",
    ]
    with llama(folder / "model.gguf") as client:
        for text in [*own, *TEXTS]:
            bare = spaced(text, "every", ["<s>", "</s>", "<unk>"])
            assert ids_of_llama(client, bare) == tokenizer.encode(text).ids, text


def test_both_files_of_internlm_v1_say_the_same(tmp_path: Path) -> None:
    folder = retired(tmp_path, made.internlm_folder(tmp_path / "base"))
    of_json = read_vocabulary(folder, made.VOCAB)
    (folder / "tokenizer.json").unlink()
    of_model = read_vocabulary(folder, made.VOCAB)
    for same in ("tokens", "types", "special", "chat_template", "add_bos", "space_first"):
        assert getattr(of_model, same) == getattr(of_json, same), same
    assert not of_json.space_first


@pytest.mark.parametrize(
    ("config", "habit"),
    [({}, "every"), ({"legacy": False}, "first"), ({"add_prefix_space": False}, "never")],
)
def test_what_a_configuration_says_of_a_sentencepiece_model(
    tmp_path: Path, config: dict[str, Any], habit: Habit
) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(made.sentencepiece_model(made.PIECES))
    assert spacing_in(read(path), config) == Spacing(habit, ("<eoh>", "<eoa>"))


def test_qwen_v1_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "VOCAB", 480)  # all of its special tokens, and some spare
    you = "你".encode()
    tokens = [*made.BYTES, b"us", b"user", b"er", you[:2], you, b" a"]
    base = made.qwen_folder(tmp_path / "base", tokens, seq_length=256, vocab_size=480)
    folder = retired(tmp_path, base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    weights = made.qwen_weights()
    with llama(folder / "model.gguf") as client:
        for turns in DIALOGUES:
            told = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
            assert prompt_of(client, turns) == told
            wanted = greedy(lambda ids: made.qwen(weights, ids), told, tokens=8)
            assert greedy_of_llama(client, told, 8) == wanted


# --- Metaspace -------------------------------------------------------------------------------

CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ '[' + message['role'] + '] ' }}"
    "{{ message['content'] }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
BARE = CHAT.replace("{{ bos_token }}", "")
SPECIAL = ["<unk>", "<s>", "</s>"]


def metaspace(**how: Any) -> dict[str, Any]:
    cut = {"type": "Metaspace", "replacement": "▁", **how}
    return {"normalizer": None, "pre_tokenizer": cut}


def prepended(*steps: str) -> dict[str, Any]:
    known = {
        "Prepend": {"type": "Prepend", "prepend": "▁"},
        "Replace": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    }
    normalizers = [known[step] for step in steps]
    return {"normalizer": {"type": "Sequence", "normalizers": normalizers}, "pre_tokenizer": None}


FORMS: list[tuple[Habit, dict[str, Any]]] = [
    ("never", metaspace(prepend_scheme="never", split=False)),
    ("first", metaspace(prepend_scheme="first", split=False)),
    ("first", metaspace(prepend_scheme="first", split=True)),
    ("missing", metaspace(prepend_scheme="always", split=False)),
    ("missing", metaspace(str_rep="▁", add_prefix_space=True)),  # as it was written until 2024
    ("every", prepended("Prepend", "Replace")),
    ("every", prepended("Replace", "Prepend")),
    ("never", prepended("Replace")),
]


def with_form(folder: Path, form: dict[str, Any], template: str | None) -> Path:
    """A SentencePiece tokenizer that writes its spaces in this form, on random weights."""
    base = sentencepiece_folder(folder, prefix=True)
    path = base / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8")) | form
    if (found["pre_tokenizer"] or {}).get("split", True):
        _never_within(found["model"])
    path.write_text(json.dumps(found), encoding="utf-8")
    if template is not None:
        (base / "chat_template.jinja").write_text(template)
    return base


def _never_within(model: dict[str, Any]) -> None:
    """Leave out the pieces with a space inside, as SentencePiece itself does."""
    crossing = {text for text in model["vocab"] if "▁" in text[1:]}
    for text in crossing:
        model["vocab"][f"unused {model['vocab'].pop(text)}"] = len(model["vocab"])
    kept = [pair for pair in model["merges"] if not crossing & {*pair, "".join(pair)}]
    model["merges"] = kept
    model["vocab"] = {text: place for place, text in enumerate(model["vocab"])}


@pytest.mark.parametrize(("habit", "form"), FORMS, ids=range(len(FORMS)))
@pytest.mark.parametrize("template", [CHAT, BARE], ids=["bos", "bare"])
def test_ids_of_every_form(
    tmp_path: Path, habit: Habit, form: dict[str, Any], template: str
) -> None:
    base = with_form(tmp_path / "x", form, template)
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    native = habit in ("never", "every")
    with llama(written(base, tmp_path / "x.gguf", "f32")) as client:
        for text in [*TEXTS, "<s>after", "a</s> b", "春眠 处处", " <s> <s>a"]:
            given = text if native else spaced(text, habit, SPECIAL)
            assert ids_of_llama(client, given) == tokenizer.encode(text).ids, text
        for turns in conversations():
            prompt = client.post("/apply-template", json={"messages": turns}).json()["prompt"]
            shown = shown_by_hand(template, turns)
            told = tokenizer.encode(shown, add_special_tokens=template is BARE).ids
            assert ids_of_llama(client, prompt) == told


def conversations() -> Iterator[list[dict[str, str]]]:
    for content in ("春眠不觉晓", " Hello there", ""):
        yield [{"role": "user", "content": content}]
        yield [{"role": "user", "content": "a"}, {"role": "assistant", "content": content},
               {"role": "user", "content": "处处"}]  # fmt: skip


def shown_by_hand(template: str, turns: list[dict[str, str]]) -> str:
    ends = {"assistant": "</s>"}
    shown = "".join(f"[{t['role']}] {t['content']}{ends.get(t['role'], '')}" for t in turns)
    return ("<s>" if template == CHAT else "") + shown + "[assistant]"


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "template", "said"),
    [
        (metaspace(prepend_scheme="first", split=False), None, "this model has none"),
        (metaspace(prepend_scheme="always", split=False), CHAT[:-3], "the chat template does not"),
        (
            metaspace(prepend_scheme="always", split=False),
            "<s>{{ messages[0].content }}",
            "before every stretch of text only where there is none, .* could not be changed",
        ),
        (metaspace(replacement="_"), CHAT, "with a pre_tokenizer Metaspace"),
        (
            {"pre_tokenizer": {"type": "Whitespace"}},
            CHAT,
            "with a normalizer Prepend, Replace and a pre_tokenizer Whitespace; known are",
        ),
        (
            {"normalizer": {"type": "Lowercase"}, "pre_tokenizer": None},
            CHAT,
            "with a normalizer Lowercase",
        ),
    ],
)
def test_what_llama_cpp_would_not_do_is_refused(
    tmp_path: Path, form: dict[str, Any], template: str | None, said: str
) -> None:
    base = with_form(tmp_path / "x", form, template)
    with pytest.raises(UnsupportedError, match=said) as caught:
        read_vocabulary(base, 10_000)
    assert "\n" not in str(caught.value)


def test_pieces_over_a_space_are_refused_where_text_is_cut_there(tmp_path: Path) -> None:
    base = sentencepiece_folder(tmp_path / "x", prefix=True)
    found = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    split = found | metaspace(prepend_scheme="never", split=True)
    with pytest.raises(UnsupportedError, match=r"its piece '.*' is never used"):
        spacing_of(Path(), split)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("<eoh>|a+", r"it cuts text at /<eoh>\|a\+/"),
        ("<eoh>|<none>", "cannot cut '<none>' out of text"),
        ("aba|bab", "'aba' and 'bab' may overlap"),
    ],
)
def test_cuts_that_are_no_plain_pieces(pattern: str, said: str) -> None:
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    vocab = {"<eoh>": 0, "aba": 1, "bab": 2}
    found = {**prepended("Prepend", "Replace"), "pre_tokenizer": cut, "model": {"vocab": vocab}}
    with pytest.raises(UnsupportedError, match=said):
        spacing_of(Path(), found)


def test_the_older_way_to_say_never() -> None:
    found = {**metaspace(add_prefix_space=False, split=False), "model": {"vocab": {}}}
    assert spacing_of(Path(), found) == Spacing("never")


def test_a_template_without_a_place_for_a_system_prompt() -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHAT
    roles = {"bos": "<s>", "eos": "</s>"}
    made_so = written_out(Path(), Spacing("missing"), strict, roles, SPECIAL)
    assert made_so.endswith(strict)
    assert made_so != strict
