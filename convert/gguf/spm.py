"""SentencePiece tokenizers, in either of their files, as llama.cpp's own algorithm needs them.

llama.cpp joins, again and again, the two neighbours whose union has the highest score. A
`tokenizer.model` has those scores. A `tokenizer.json` has a list of pairs instead; it says the
same only where every union of two tokens is in that list, and all pairs of one union stand
together. That is checked, so a tokenizer that llama.cpp would not reproduce is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convert.errors import UnsupportedError
from convert.relayout import sentencepiece
from convert.relayout.sentencepiece import Pieces


def is_byte(token: str) -> bool:
    """A token that stands for one byte of what the vocabulary has no other token for."""
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def scores(path: Path, model: Mapping[str, Any], tokens: Sequence[str]) -> list[float]:
    """The order of merges as scores, one for each of `tokens`.

    Raises:
        UnsupportedError: no scores give the same ids as the merges do.
    """
    vocab: Mapping[str, int] = model["vocab"]
    order: dict[str, int] = {}
    made: dict[str, set[int]] = {}
    last = ""
    for pair in model["merges"]:
        left, right = pair.split(" ") if isinstance(pair, str) else pair
        union = left + right
        if union != last and union in order:
            raise UnsupportedError(
                f"{path}: the merges that make {union!r} do not stand together, so llama.cpp would "
                "join in another order."
            )
        last = union
        order.setdefault(union, len(order) + 1)
        made.setdefault(union, set()).add(len(left))
    for token in vocab:
        _refuse_unlisted(path, token, vocab, made.get(token, set()))
    return [-float(order.get(token, 0)) for token in tokens]


def _refuse_unlisted(path: Path, token: str, vocab: Mapping[str, int], made: set[int]) -> None:
    if is_byte(token):
        return
    for cut in range(1, len(token)):
        if cut not in made and token[:cut] in vocab and token[cut:] in vocab:
            raise UnsupportedError(
                f"{path}: llama.cpp would join {token[:cut]!r} and {token[cut:]!r} to {token!r}, "
                "for which this tokenizer has no merge."
            )


def read_model(path: Path) -> Pieces:
    """A `tokenizer.model`, refused where it changes text before it cuts it.

    Raises:
        UnsupportedError: llama.cpp would not change the text so.
    """
    found = sentencepiece.read(path)
    if found.charsmap or found.squeeze:
        what = "replaces characters" if found.charsmap else "drops repeated spaces"
        raise UnsupportedError(f"{path}: it {what} before it cuts text; llama.cpp does not.")
    return found
