"""Dialogues in three forms, the model's own template, and windows that keep their distance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convert.errors import UnsupportedError
from convert.forward.calibration import (
    CalibrationError,
    read_calibration,
    read_dialogues,
    rows_of,
    windows,
)
from convert.forward.chat import read_chat
from tests.convert.making import MINI
from tests.convert.quantize.conftest import Make

WANTED = [
    {"role": "system", "content": "你是诗人"},
    {"role": "user", "content": "写诗"},
    {"role": "assistant", "content": "春眠不觉晓"},
]
TURN = {"system": "你是诗人", "input": "写诗", "output": "春眠不觉晓"}


def lines(path: Path, *found: Any) -> Path:
    text = (line if isinstance(line, str) else json.dumps(line) for line in found)
    path.write_text("\n".join(text))
    return path


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ({"messages": WANTED}, WANTED),
        ({"conversation": [TURN]}, WANTED),
        ({"conversation": [{"input": "写诗", "output": "春眠不觉晓"}]}, WANTED[1:]),
        ({"prompt": "写诗", "completion": "春眠不觉晓"}, WANTED[1:]),
        ({"prompt": WANTED[:2], "completion": WANTED[2:]}, WANTED),
    ],
    ids=["messages", "xtuner", "xtuner without system", "prompt", "prompt of messages"],
)
def test_three_forms_are_one(tmp_path: Path, line: Any, wanted: Any) -> None:
    assert read_dialogues(lines(tmp_path / "d.jsonl", line, "")) == [wanted]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    """Texts of the web have other ends of lines in them, and Windows writes a mark first."""
    said = "春眠\u2028不觉\u2029晓\x85"
    line = json.dumps({"prompt": "写诗", "completion": said}, ensure_ascii=False)
    path = tmp_path / "d.jsonl"
    path.write_bytes(f"\ufeff{line}\r\n{line}\r\n".encode())
    assert [dialogue[1]["content"] for dialogue in read_dialogues(path)] == [said, said]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "not JSON"),
        ("[1]", "no dialogue; a line is"),
        ({"text": "hello"}, "no dialogue; a line is"),
        ({"messages": []}, "no dialogue; a line is"),
        ({"messages": [{"role": "user", "content": "?"}]}, "the assistant says nothing"),
        ({"messages": [{"role": "tool", "content": "?"}]}, "a message of 'tool'"),
        ({"messages": ["?"]}, "a message of None"),
        ({"messages": [{"role": "user", "content": None}]}, "whose content is NoneType"),
        ({"conversation": [{"input": "?"}]}, "a message of 'assistant' whose content is NoneType"),
    ],
)
def test_a_line_that_is_no_dialogue_is_named(tmp_path: Path, line: Any, sentence: str) -> None:
    path = lines(tmp_path / "d.jsonl", {"messages": WANTED}, line)
    with pytest.raises(CalibrationError) as caught:
        read_dialogues(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert sentence in str(caught.value)


def test_what_is_held_back_was_not_used(dialogues: Path) -> None:
    chat = read_chat(MINI)
    calibration = read_calibration(dialogues, chat, samples=16, seqlen=32)
    assert calibration.dialogues == 32
    assert calibration.used.shape[1] == 32
    assert calibration.held.tokens.shape == calibration.held.answers.shape
    used, held = ("".join(map(chat.tokenizer.id_to_token, t.flatten().tolist()))
                  for t in (calibration.used, calibration.held.tokens))  # fmt: skip
    numbers = {f"第{i}个" for i in range(32)}
    assert {n for n in numbers if n in used} & {n for n in numbers if n in held} == set()
    again = read_calibration(dialogues, chat, samples=16, seqlen=32)
    assert (again.used == calibration.used).all()


def test_windows_are_full_unless_there_is_only_one() -> None:
    texts = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    assert windows(texts, 9, 4).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert windows(texts, 1, 4).tolist() == [[1, 2, 3, 4]]
    assert windows(texts, 9, 16).tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]


def test_one_dialogue_is_too_few(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {"messages": WANTED})
    with pytest.raises(CalibrationError, match="holds 1 dialogue; at least 2"):
        read_calibration(path, read_chat(MINI), samples=1, seqlen=16)
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_dialogues(tmp_path / "none.jsonl")


TEMPLATES = [
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}\n[{{ m.content }}]\n"
    "{% continue %}{% endif %}\n{{ m['role'] | tojson }}{{ m | tojson }}\n{% endfor %}",
    "{%- for m in messages %}\n  {%- if loop.first %}<s>{% endif %}\n  {{- m.content.strip() }}\n"
    "{%- endfor %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
]


@pytest.mark.parametrize("template", [None, *TEMPLATES])
def test_text_and_tokens_are_transformers(make_model: Make, template: str | None) -> None:
    transformers = pytest.importorskip("transformers")
    folder = make_model()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    messages = [*WANTED, {"role": "user", "content": "<b>再来</b> 'x'"}]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    chat = read_chat(folder)
    assert chat.text(messages) == tokenizer.apply_chat_template(messages, tokenize=False)
    wanted = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert chat.tokens(messages) == wanted


def test_a_template_may_refuse_and_may_not_do_more(make_model: Make) -> None:
    folder = make_model()
    for template, sentence in (
        ("{{ raise_exception('no system please') }}", "no system please"),
        ("{{ ''.__class__.__mro__ }}", "given a calibration dialogue, does not render"),
        ("{{ 1 + none }}", "given a calibration dialogue, does not render"),
    ):
        (folder / "chat_template.jinja").write_text(template)
        with pytest.raises(UnsupportedError, match=sentence):
            read_chat(folder).text(WANTED)


def test_a_template_that_writes_the_date_says_the_same_on_every_day(make_model: Make) -> None:
    folder = make_model()
    (folder / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}")
    assert read_chat(folder).text(WANTED) == "26 Jul 2024"


def test_a_model_without_a_template_is_refused(make_model: Make) -> None:
    folder = make_model()
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**config, "chat_template": [{"name": "default", "template": "x"}]})
    )
    assert read_chat(folder).text(WANTED) == "x"
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=r"no chat template; put .* chat_template\.jinja"):
        read_chat(folder)


def test_a_sentencepiece_tokenizer_is_refused_with_the_remedy(make_model: Make) -> None:
    folder = make_model()
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(UnsupportedError, match=r"SentencePiece tokenizer\.model.*use_fast=True"):
        read_chat(folder)


def test_what_the_assistant_says_is_known(make_model: Make) -> None:
    """An answer with the token that ends it, even where a question has the same words before."""
    chat = read_chat(make_model())
    asked = [
        {"role": "user", "content": "春眠不觉晓"},
        {"role": "assistant", "content": " 春眠不觉晓"},
    ]
    again = [{"role": "user", "content": "再来"}, {"role": "assistant", "content": "处处闻啼鸟"}]
    messages = [*WANTED[:1], *asked, *again]
    ids, said = chat.tokens(messages), chat.answers(messages)
    assert len(ids) == len(said)
    spoken = chat.tokenizer.decode([i for i, one in zip(ids, said, strict=True) if one], False)
    assert spoken.replace(" ", "") == "春眠不觉晓<|im_end|>处处闻啼鸟<|im_end|>"
    held = rows_of([messages, asked], chat, most=4096, seqlen=512)
    assert held.tokens[0].tolist() == ids
    assert held.real.sum(1).tolist() == [len(ids), len(chat.tokens(asked))]
    assert held.answers[0].tolist() == said
    assert not held.answers[1, held.real[1].sum() :].any()
