"""Packs whole chats into rows of fixed length with document numbers and answer weights."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import chats
import numpy as np
from chats import Chat
from tokenizers import Tokenizer

PAD = 3


@dataclass
class Row:
    """A row being filled."""

    tokens: list[int] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)
    weights: list[bool] = field(default_factory=list)
    count: int = 0


def encode(chat: Chat, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Token ids of a chat and which of them the model must learn to produce."""
    tokens: list[int] = []
    learn: list[bool] = []
    for text, answer in chats.pieces(chat):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokens += ids
        learn += [answer] * len(ids)
    return tokens, learn


def add(row: Row, tokens: list[int], learn: list[bool]) -> None:
    """Append one document to a row."""
    row.count += 1
    row.tokens += tokens
    row.documents += [row.count] * len(tokens)
    row.weights += learn


def fill(items: list[tuple[list[int], list[bool]]], length: int, window: int = 24) -> list[Row]:
    """Put each document into the fullest of the open rows that still has room for it."""
    done: list[Row] = []
    rows: list[Row] = []
    for tokens, learn in items:
        if len(tokens) > length:
            continue
        fitting = [row for row in rows if len(row.tokens) + len(tokens) <= length]
        row = max(fitting, key=lambda r: len(r.tokens)) if fitting else Row()
        if not fitting:
            rows.append(row)
        add(row, tokens, learn)
        if len(rows) > window:
            fullest = max(rows, key=lambda r: len(r.tokens))
            rows.remove(fullest)
            done.append(fullest)
    return done + rows


def arrays(rows: list[Row], length: int) -> dict[str, np.ndarray]:
    """Rows as padded arrays; padding is a document of its own without weight."""
    shape = (len(rows), length)
    tokens = np.full(shape, PAD, dtype=np.uint16)
    documents = np.zeros(shape, dtype=np.uint8)
    weights = np.zeros(shape, dtype=np.bool_)
    for at, row in enumerate(rows):
        size = len(row.tokens)
        tokens[at, :size], documents[at, :size] = row.tokens, row.documents
        weights[at, :size] = row.weights
    return {"tokens": tokens, "documents": documents, "weights": weights}


def pack(items: list[Chat], tokenizer: Tokenizer, length: int) -> dict[str, np.ndarray]:
    """Arrays of rows for a list of chats."""
    return arrays(fill([encode(chat, tokenizer) for chat in items], length), length)


def main() -> None:
    """Write WORK/train.npz and WORK/valid.npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--length", type=int, default=257)
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.work / "tokenizer" / "tokenizer.json"))
    for name in ("valid", "train"):
        packed = pack(chats.read(options.work / f"{name}.jsonl"), tokenizer, options.length)
        np.savez(options.work / f"{name}.npz", **packed)
        full = float((packed["tokens"] != PAD).mean())
        print(name, packed["tokens"].shape, f"filled {full:.3f}", int(packed["weights"].sum()))


if __name__ == "__main__":
    main()
