"""Byte-pair merges recovered from a vocabulary that keeps only the order of its pieces.

SentencePiece and tiktoken merge, at each step, the two neighbours whose union comes first in the
vocabulary. A `tokenizer.json` lists the pairs themselves, so every way of cutting a piece into
two others becomes a pair, in the order of the pieces.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Pair = tuple[str, str]


def merges(pieces: Iterable[str], known: dict[str, int]) -> list[Pair]:
    """All pairs that make one of `pieces`, which come in the order they are merged in."""
    found: list[Pair] = []
    for piece in pieces:
        cuts = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        pairs = [pair for pair in cuts if pair[0] in known and pair[1] in known]
        found += sorted(pairs, key=lambda pair: (known[pair[0]], known[pair[1]]))
    return found


def tokenizer(**parts: Any) -> dict[str, Any]:
    """A `tokenizer.json` of these parts."""
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts,
    }  # fmt: skip


def model(vocab: dict[str, int], pairs: list[Pair], **changes: Any) -> dict[str, Any]:
    return {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": False, "vocab": vocab, "merges": [list(pair) for pair in pairs], **changes,
    }  # fmt: skip


def special(text: str, number: int) -> dict[str, Any]:
    """A token that is never cut out of words, whatever stands around it."""
    return {
        "id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": True,
    }  # fmt: skip
