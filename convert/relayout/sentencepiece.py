"""Reads a SentencePiece `tokenizer.model` and writes the same tokenizer as `tokenizer.json`.

The file is one protocol buffer message; the few fields that decide ids are read from its wire
format, so neither the sentencepiece package nor anybody's generated code is needed.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.errors import DamagedError, UnsupportedError
from convert.relayout import bpe

SPACE = "▁"
_BPE = 2
_NORMAL, _UNKNOWN, _CONTROL, _DEFINED, _UNUSED, _BYTE = range(1, 7)


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a `tokenizer.model` says."""

    path: Path
    pieces: list[Piece]
    byte_fallback: bool
    charsmap: bytes
    """Compiled replacements of characters; empty where text is taken as it is."""
    prefix: bool
    """Whether text begins with a space of its own."""
    squeeze: bool
    """Whether runs of spaces become one, and spaces at the ends none."""
    ids: Mapping[str, int] = field(default_factory=dict)


def read(path: Path) -> Pieces:
    """Take the file apart.

    Raises:
        DamagedError: it is not a SentencePiece model.
        UnsupportedError: its algorithm is not byte-pair encoding.
    """
    try:
        message = _message(path.read_bytes())
        trainer, normalizer = _sub(message, 2), _sub(message, 3)
        pieces = [_piece(_message(raw)) for raw in message.get(1, [])]
    except (IndexError, ValueError, TypeError, struct.error) as error:
        raise DamagedError(path, "is not a SentencePiece model.") from error
    if not pieces:
        raise DamagedError(path, "is not a SentencePiece model: it has no pieces.")
    if trainer.get(3, [1])[-1] != _BPE or trainer.get(24, [0])[-1]:
        raise UnsupportedError(
            f"{path}: only byte-pair SentencePiece models with spaces in front are re-written."
        )
    return Pieces(
        path, pieces, bool(trainer.get(35, [0])[-1]), normalizer.get(2, [b""])[-1],
        bool(normalizer.get(3, [1])[-1]), bool(normalizer.get(4, [1])[-1]),
        {piece.text: number for number, piece in enumerate(pieces)},
    )  # fmt: skip


def tokenizer(found: Pieces, *, special: Mapping[str, int], bos: str | None) -> dict[str, Any]:
    """The same tokenizer as `tokenizer.json`; `special` tokens are recognised inside text."""
    vocab = dict(found.ids)
    defined = [piece.text for piece in found.pieces if piece.kind == _DEFINED]
    merged = [piece for piece in found.pieces if piece.kind == _NORMAL and len(piece.text) > 1]
    merged.sort(key=lambda piece: -piece.score)
    unknown = next((p.text for p in found.pieces if p.kind == _UNKNOWN), None)
    mergeable = {p.text: vocab[p.text] for p in found.pieces if p.kind == _NORMAL}
    pairs = bpe.merges((piece.text for piece in merged), mergeable)
    return bpe.tokenizer(
        added_tokens=[
            bpe.special(text, number) for number, text in sorted((n, t) for t, n in special.items())
        ],
        normalizer=_normalizer(found),
        pre_tokenizer=_defined_apart(defined),
        post_processor=_begins(bos, vocab),
        decoder=_decoder(found),
        model=bpe.model(
            vocab, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=found.byte_fallback,
            ignore_merges=bool(defined),
        ),
    )  # fmt: skip


def _normalizer(found: Pieces) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    if found.charsmap:
        encoded = base64.b64encode(found.charsmap).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    if found.squeeze:
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if found.prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    return {"type": "Sequence", "normalizers": steps}


def _defined_apart(defined: list[str]) -> dict[str, Any] | None:
    """Pieces that users have defined are cut out first, the longest at each place.

    As added tokens they would be cut out before the text is normalised, and what follows them
    would begin with a space that SentencePiece does not put there.
    """
    if not defined:
        return None
    longest = sorted(defined, key=len, reverse=True)
    pattern = "|".join(re.escape(text) for text in longest)
    return {
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False,
    }  # fmt: skip


def _begins(bos: str | None, vocab: Mapping[str, int]) -> dict[str, Any] | None:
    if bos is None:
        return None
    first, text = (
        {"SpecialToken": {"id": bos, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    )
    second = {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing", "single": [first, text], "pair": [first, text, second],
        "special_tokens": {bos: {"id": bos, "ids": [vocab[bos]], "tokens": [bos]}},
    }  # fmt: skip


def _decoder(found: Pieces) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if found.prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _piece(message: Mapping[int, list[Any]]) -> Piece:
    (score,) = struct.unpack("<f", message.get(2, [b"\0\0\0\0"])[-1])
    return Piece(message[1][-1].decode("utf-8"), score, message.get(3, [_NORMAL])[-1])


def _sub(message: Mapping[int, list[Any]], number: int) -> dict[int, list[Any]]:
    return _message(message.get(number, [b""])[-1])


def _message(raw: bytes) -> dict[int, list[Any]]:
    """The fields of a message by number; numbers as int, all else as the bytes they are."""
    found: dict[int, list[Any]] = {}
    for number, value in _fields(raw):
        found.setdefault(number, []).append(value)
    return found


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(raw, place)
            yield number, value
            continue
        if wire == 2:
            length, place = _varint(raw, place)
        else:
            length = {1: 8, 5: 4}.get(wire, len(raw) + 1)
        if place + length > len(raw):
            raise ValueError("a field ends outside its message")
        yield number, raw[place : place + length]
        place += length


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
