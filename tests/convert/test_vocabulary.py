"""What a tokenizer folder says of special tokens, and what of it llama.cpp would not follow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convert.errors import ConvertError
from convert.gguf.tokenizer import read_vocabulary
from tests.convert.making import MINI

SIZE = json.loads((MINI / "config.json").read_text())["vocab_size"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tokenizer of the embedded base, for a test to change."""
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(MINI / name, tmp_path / name)
    return tmp_path


def changed(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads((folder / name).read_text(encoding="utf-8"))
    change(found)
    (folder / name).write_text(json.dumps(found), encoding="utf-8")


def around(*tokens: str) -> dict[str, Any]:
    single = [{"SpecialToken": {"id": token, "type_id": 0}} for token in tokens]
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [*single, text], "pair": []}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(post_processor=around("<|im_end|>", "<|im_end|>")), "adds .*im_end"),
        (lambda t: t.update(post_processor={"type": "BertProcessing"}), "post_processor Bert"),
        (lambda t: t["added_tokens"][0].update(lstrip=True), "is matched with lstrip"),
        (lambda t: t["added_tokens"][0].update(single_word=True), "matched with single_word"),
        (lambda t: t["added_tokens"][-1].update(id=SIZE), f"has the id {SIZE}, but the model only"),
        (lambda t: t["model"].update(type="Unigram"), "a Unigram tokenizer; only BPE"),
    ],
)
def test_what_would_give_other_ids_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    changed(folder, "tokenizer.json", change)
    with pytest.raises(ConvertError, match=said):
        read_vocabulary(folder, SIZE)


def test_what_ends_an_answer_is_what_the_generation_config_says(folder: Path) -> None:
    changed(folder, "tokenizer_config.json", lambda c: c.update(eos_token="<|im_start|>"))
    ids = {token: i for i, token in enumerate(read_vocabulary(MINI, SIZE).tokens)}
    end, start = ids["<|im_end|>"], ids["<|im_start|>"]
    stops: tuple[Any, ...] = (end, [end], [end, start])
    expected: tuple[dict[str, int], ...] = (
        {"eos": end}, {"eos": end}, {"eos": start, "eot": end},
    )  # fmt: skip
    for stop, roles in zip(stops, expected, strict=True):
        changed(folder, "generation_config.json", lambda c, s=stop: c.update(eos_token_id=s))
        special = read_vocabulary(folder, SIZE).special
        assert {role: special[role] for role in ("eos", "eot") if role in special} == roles
