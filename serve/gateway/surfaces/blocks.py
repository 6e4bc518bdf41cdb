"""The content blocks of an answer, in order: text, reasoning, tool calls."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Literal

from serve.gateway.answers.fixes import Json
from serve.gateway.surfaces.pieces import Called, Said


@dataclass(slots=True)
class Block:
    """One of them, as far as it has come."""

    index: int
    kind: Literal["text", "reasoning", "refusal", "call"]
    number: int = -1
    """Of a call: how the engine numbers it."""
    call_id: str = ""
    name: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    parts: list[str] = field(default_factory=list)
    chances: list[Json] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def goes_on_with(self, piece: Said | Called) -> bool:
        if isinstance(piece, Called):
            return self.kind == "call" and self.number == piece.number
        return self.kind == piece.kind

    def add(self, piece: Said | Called) -> None:
        self.parts.append(piece.text)
        if isinstance(piece, Said):
            self.chances += piece.chances


def begun(piece: Said | Called, index: int) -> Block:
    """The block that this piece is the first of."""
    if isinstance(piece, Said):
        return Block(index, piece.kind)
    call_id = piece.id or f"call_{uuid.uuid4().hex}"
    return Block(index, "call", piece.number, call_id, piece.name or "")
