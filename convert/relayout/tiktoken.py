"""Writes a tiktoken vocabulary (Qwen v1's `qwen.tiktoken`) as the same `tokenizer.json`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convert.errors import DamagedError
from convert.relayout import bpe


def ranks(path: Path) -> list[bytes]:
    """The tokens in the order of their ids.

    Raises:
        DamagedError: the file is not a tiktoken vocabulary.
    """
    try:
        lines = [line.split() for line in path.read_bytes().splitlines() if line]
        found = {int(number): base64.b64decode(text, validate=True) for text, number in lines}
        return [found[number] for number in range(len(found))]
    except (ValueError, KeyError, binascii.Error) as error:
        raise DamagedError(path, "is not a tiktoken vocabulary.") from error


def tokenizer(tokens: Sequence[bytes], special: Sequence[str], pattern: str) -> dict[str, Any]:
    """The same tokenizer as `tokenizer.json`; special tokens follow the others."""
    letters = _letters()
    texts = ["".join(letters[byte] for byte in token) for token in tokens]
    vocab = {text: number for number, text in enumerate(texts)}
    pairs = bpe.merges((text for text in texts if len(text) > 1), vocab)
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": False}  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
             "use_regex": False}  # fmt: skip
    return bpe.tokenizer(
        added_tokens=[bpe.special(t, n) for n, t in enumerate(special, len(tokens))],
        normalizer={"type": "NFC"},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]},
        post_processor=level,
        decoder=level,
        model=bpe.model(vocab, pairs),
    )


def _letters() -> list[str]:
    """A printable character for every byte, as byte-level vocabularies have written them since
    GPT-2: printable Latin-1 stands for itself, the rest is moved up behind it in order."""
    own = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return [chr(byte) if byte in own else chr(next(moved)) for byte in range(256)]
