"""Translates a chat completion into another surface, event by event or as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from serve.gateway.answers.fixes import Json
from serve.gateway.answers.stream import EventStream
from serve.gateway.errors import EngineFailedError, GatewayError
from serve.gateway.surfaces.blocks import Block, begun
from serve.gateway.surfaces.pieces import (
    Alive,
    Called,
    Counted,
    Done,
    Ended,
    Piece,
    Said,
    of_answer,
    of_events,
    only_text,
)


class Outcome(msgspec.Struct):
    """How an answer ended, and what it cost; until it has, as if it went on."""

    end: Ended = Ended("stop")
    usage: Json = {}


class Serializer(Protocol):
    """Serializes one answer as events or as a whole, in the format of one surface."""

    def begin(self) -> bytes: ...
    def alive(self) -> bytes: ...
    def opened(self, block: Block) -> bytes: ...
    def grew(self, block: Block, piece: Said | Called) -> bytes: ...
    def closed(self, block: Block, outcome: Outcome) -> bytes: ...
    def end(self, blocks: Sequence[Block], outcome: Outcome) -> bytes: ...
    def whole(self, blocks: Sequence[Block], outcome: Outcome) -> bytes: ...
    def envelope(self, error: GatewayError) -> bytes: ...
    def ending(self, error: GatewayError, blocks: Sequence[Block]) -> bytes: ...


class Retelling:
    """One answer on its way from a chat completion to another surface."""

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer
        self._blocks: list[Block] = []
        self._open: Block | None = None
        self._outcome = Outcome()
        self._began = False

    def feed(self, events: bytes) -> bytes:
        """Tell what some whole events of a chat completion say.

        Raises:
            EngineFailedError: it cannot be told.
        """
        block = self._open
        if block is not None and block.kind == "text" and (text := only_text(events)):
            block.parts.append(text)
            return self._serializer.grew(block, Said("text", text, []))
        told = [] if self._began else [self._serializer.begin()]
        self._began = True
        told += map(self._take, of_events(events))
        return b"".join(told)

    def whole(self, answer: bytes) -> bytes:
        """Tell a whole chat completion.

        Raises:
            EngineFailedError: it cannot be told.
        """
        for piece in of_answer(answer):
            self._take(piece)
        return self._serializer.whole(self._blocks, self._outcome)

    def envelope(self, error: GatewayError) -> bytes:
        return self._serializer.envelope(error)

    def ending(self, error: GatewayError) -> bytes:
        """The last events of a stream that failed after it began."""
        return self._serializer.ending(error, self._blocks)

    def _take(self, piece: Piece) -> bytes:
        if isinstance(piece, Said | Called):
            return self._said(piece)
        if isinstance(piece, Ended):
            self._outcome.end = piece
        elif isinstance(piece, Counted):
            self._outcome.usage = piece.usage
        elif isinstance(piece, Alive):
            return self._serializer.alive()
        elif isinstance(piece, Done):
            return self._close() + self._serializer.end(self._blocks, self._outcome)
        return b""

    def _said(self, piece: Said | Called) -> bytes:
        block, told = self._open, b""
        if block is None or not block.goes_on_with(piece):
            told = self._close()
            block = self._open = self._new(piece)
            told += self._serializer.opened(block)
        if piece.text:
            block.add(piece)
            told += self._serializer.grew(block, piece)
        return told

    def _new(self, piece: Said | Called) -> Block:
        if any(block.kind == "call" and block.goes_on_with(piece) for block in self._blocks):
            raise EngineFailedError("The engine went back to a tool call that it had ended.")
        block = begun(piece, len(self._blocks))
        self._blocks.append(block)
        return block

    def _close(self) -> bytes:
        block, self._open = self._open, None
        return b"" if block is None else self._serializer.closed(block, self._outcome)


class Retold:
    """A stream of events on its way through, told in other words."""

    def __init__(self, events: EventStream, retelling: Retelling) -> None:
        self._events = events
        self._retelling = retelling
        self._untold: GatewayError | None = None

    @property
    def over(self) -> bool:
        return self._events.over or self._untold is not None

    @property
    def failure(self) -> GatewayError | None:
        return self._untold or self._events.failure

    def feed(self, chunk: bytes) -> bytes:
        return self._told(self._events.feed(chunk))

    def end(self) -> bytes:
        return self._told(self._events.end())

    def _told(self, events: bytes) -> bytes:
        """As a stream does, it keeps what is wrong: raised it would be the failure of whoever
        brings the events, which is the engine's connection."""
        try:
            return self._retelling.feed(events)
        except GatewayError as error:
            self._untold = error
            return b""


def named(event: Json) -> bytes:
    """An event as both surfaces send it: its type is its name too."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))
