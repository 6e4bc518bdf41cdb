"""Which of llama.cpp's ways of cutting text into words is a tokenizer's own.

A byte-level tokenizer is told apart by its regular expressions, step by step, and by whether words
that are whole tokens skip the merges: that is all that decides where words end, so two models that
agree in it are the same to llama.cpp whoever made them. A way that is not in the table is refused.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import UnsupportedError

Step = dict[str, Any]


def _split(pattern: str) -> Step:
    return {
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False,
    }  # fmt: skip


_WORDS: Step = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BYTES: Step = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
_DIGITS: Step = {"type": "Digits", "individual_digits": True}
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN35 = _QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(
    r" ?[^\s\p{L}\p{N}]", r" ?[^\s\p{L}\p{M}\p{N}]"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One way, under llama.cpp's name for it."""

    name: str
    steps: list[Step]
    """As Hugging Face writes it."""
    whole_words: bool = False
    """Whether a word that is a token is that token, whatever the merges would make of it."""
    composed: bool = False
    """Whether tokenizers of this kind compose characters first (NFC); llama.cpp never does, and
    text that people type is composed already."""


KNOWN = (
    PreTokenizer("gpt-2", [_WORDS]),
    PreTokenizer("smollm", [_DIGITS, _WORDS]),  # StarCoder
    PreTokenizer("qwen2", [_split(_QWEN2), _BYTES], composed=True),  # Qwen2 to 3, R1 distillates
    PreTokenizer("qwen35", [_split(_QWEN35), _BYTES], composed=True),
    PreTokenizer("llama-bpe", [_split(_LLAMA3), _BYTES], whole_words=True),  # Llama 3, Falcon 3
    PreTokenizer("smaug-bpe", [_split(_LLAMA3), _BYTES]),  # the same, with merges only
    PreTokenizer(
        "deepseek-v3",
        [_split(r"\p{N}{1,3}"), _split("[一-龥぀-ゟ゠-ヿ]+"), _split(_DEEPSEEK3), _BYTES],
    ),
    PreTokenizer(
        "deepseek-coder",
        [
            _split("[\r\n]"), _split(r"\s?\p{L}+"), _split(r"\s?\p{P}+"),
            _split("[一-龥ࠀ-一가-퟿]+"), _DIGITS, _BYTES,
        ],
    ),
    PreTokenizer(
        "minicpm5",
        [
            _split(r"\p{N}{1,3}"), _split(_QWEN2.replace(r"|\p{N}|", r"|\p{N}+|")), _BYTES,
        ],
        whole_words=True,
    ),
)  # fmt: skip
"""The names and the expressions are those of llama.cpp's `llama-vocab.cpp`, where most stand beside
the original of the model they were made for; which names give the same ids is what
tests/convert/test_gguf_words.py finds out."""


def name_of(path: Path, found: Mapping[str, Any]) -> str:
    """llama.cpp's name for how this byte-level `tokenizer.json` cuts text into words.

    Raises:
        UnsupportedError: llama.cpp has no name for it that is known here.
    """
    model, normalizer = found["model"], found.get("normalizer") or {}
    cut = found.get("pre_tokenizer") or {}
    _refuse_odd_model(path, model)
    steps = [_bare(step) for step in cut.get("pretokenizers", [cut])]
    changes = normalizer.get("normalizers", [normalizer] if normalizer else [])
    alike = [known for known in KNOWN if known.steps == steps]
    fit = [k for k in alike if not changes or (k.composed and changes == [{"type": "NFC"}])]
    whole = bool(model.get("ignore_merges"))
    for known in fit:
        if known.whole_words == whole:
            return known.name
    if fit and _never_matters(model, {token["content"] for token in found["added_tokens"]}):
        return fit[0].name
    raise UnsupportedError(f"{path}: {_met(steps, changes, whole, bool(alike), bool(fit))}.")


def _bare(step: Mapping[str, Any]) -> Step:
    return {key: value for key, value in step.items() if key != "trim_offsets"}


def _refuse_odd_model(path: Path, model: Mapping[str, Any]) -> None:
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise UnsupportedError(
                f"{path}: its model has {key}: {model[key]!r}, which llama.cpp does not know."
            )


def _never_matters(model: Mapping[str, Any], added: set[str]) -> bool:
    """Whether the merges make every token of the vocabulary out of its own letters anyway."""
    ranks: dict[tuple[str, str], int] = {}
    for rank, pair in enumerate(model["merges"]):
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        ranks.setdefault((left, right), rank)
    return all(_merged(token, ranks) == [token] for token in model["vocab"].keys() - added)


def _merged(text: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    parts = list(text)
    while len(parts) > 1:
        pairs = list(itertools.pairwise(parts))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            return parts
        place = pairs.index(best)
        parts[place : place + 2] = ["".join(best)]
    return parts


def _met(steps: list[Step], changes: list[Step], whole: bool, alike: bool, fit: bool) -> str:
    """What was met and is not known, for people."""
    if alike and not fit:
        shown = ", ".join(str(change.get("type")) for change in changes)
        return f"it changes text before it cuts it ({shown}), which llama.cpp does not"
    if fit:
        what = "skip" if whole else "go through"
        return (
            f"its words that are whole tokens {what} the merges (ignore_merges), which llama.cpp "
            "does the other way round for this way of cutting text"
        )
    shown = ", ".join(json.dumps(step, ensure_ascii=False) for step in steps)
    names = ", ".join(known.name for known in KNOWN)
    return (
        f"an unknown way of cutting text into words ({re.sub(chr(92) + 's+', ' ', shown)[:400]}); "
        f"known are those that llama.cpp calls {names}"
    )


def named(path: Path, name: str) -> PreTokenizer:
    """How Hugging Face writes what llama.cpp calls `name`.

    Raises:
        UnsupportedError: a name there is no rule for.
    """
    for known in KNOWN:
        if known.name == name:
            steps = [s | {"trim_offsets": True} if s["type"] == "ByteLevel" else s
                     for s in known.steps]  # fmt: skip
            return PreTokenizer(name, steps, known.whole_words, known.composed)
    names = ", ".join(known.name for known in KNOWN)
    raise UnsupportedError(
        f"{path}: it cuts text into words as '{name}', for which there is no rule (known: {names})."
    )
