"""Serializes an answer as Anthropic's Messages."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pydantic_core

from serve.gateway.answers.fixes import Json
from serve.gateway.errors import EngineFailedError, GatewayError
from serve.gateway.surfaces.blocks import Block
from serve.gateway.surfaces.messages.failure import envelope, failure
from serve.gateway.surfaces.pieces import Called, Said
from serve.gateway.surfaces.retelling import Outcome, named

REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
DELTAS: Mapping[str, tuple[str, str]] = {
    "text": ("text_delta", "text"),
    "refusal": ("text_delta", "text"),
    "reasoning": ("thinking_delta", "thinking"),
    "call": ("input_json_delta", "partial_json"),
}


class MessageSerializer:
    """The words for one message."""

    def __init__(self, model: str, stops: Sequence[str]) -> None:
        self._stops = stops
        self._face = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
        }

    def begin(self) -> bytes:
        """How long the prompt is, engines tell only at the end."""
        usage = {"input_tokens": 0, "output_tokens": 0}
        nothing: Json = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return named({"type": "message_start", "message": {**self._face, **nothing}})

    def alive(self) -> bytes:
        return named({"type": "ping"})

    def opened(self, block: Block) -> bytes:
        empty = _content(block, {})
        return named({"type": "content_block_start", "index": block.index, "content_block": empty})

    def grew(self, block: Block, piece: Said | Called) -> bytes:
        kind, name = DELTAS[block.kind]
        delta = {"type": kind, name: piece.text}
        return named({"type": "content_block_delta", "index": block.index, "delta": delta})

    def closed(self, block: Block, outcome: Outcome) -> bytes:
        return named({"type": "content_block_stop", "index": block.index})

    def end(self, blocks: Sequence[Block], outcome: Outcome) -> bytes:
        delta = {"delta": self._ended(blocks, outcome), "usage": _usage(outcome.usage)}
        return named({"type": "message_delta", **delta}) + named({"type": "message_stop"})

    def whole(self, blocks: Sequence[Block], outcome: Outcome) -> bytes:
        cut = outcome.end.reason == "length"
        content = [_content(b, _input(b, cut=cut) if b.kind == "call" else {}) for b in blocks]
        message = {**self._face, "content": content, **self._ended(blocks, outcome)}
        return msgspec.json.encode({**message, "usage": _usage(outcome.usage)})

    def envelope(self, error: GatewayError) -> bytes:
        return envelope(error)

    def ending(self, error: GatewayError, blocks: Sequence[Block]) -> bytes:
        return named(failure(error))

    def _ended(self, blocks: Sequence[Block], outcome: Outcome) -> Json:
        reason, word = outcome.end
        if reason == "stop" and word in self._stops:
            return {"stop_reason": "stop_sequence", "stop_sequence": word}
        if reason == "stop" and any(block.kind == "call" for block in blocks):
            reason = "tool_calls"
        return {"stop_reason": REASONS.get(reason, "end_turn"), "stop_sequence": None}


def _content(block: Block, given: Json) -> Json:
    """A block as far as it has come."""
    if block.kind == "call":
        return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": given}
    if block.kind == "reasoning":  # the signature is Anthropic's proof of having thought so itself
        return {"type": "thinking", "thinking": block.text, "signature": ""}
    return {"type": "text", "text": block.text}


def _input(block: Block, *, cut: bool) -> Json:
    """The arguments of a call; where the answer was cut, those that came.

    Raises:
        EngineFailedError: they are no JSON object.
    """
    try:
        given: Any = pydantic_core.from_json(block.text or "{}", allow_partial=cut)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise EngineFailedError(f"The engine called '{block.name}' with what is no JSON object.")
    return given


def _usage(told: Json) -> Json:
    """Anthropic counts what came from a cache apart from the rest of the prompt."""
    cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    usage = {
        "input_tokens": max(told.get("prompt_tokens", 0) - cached, 0),
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": told.get("completion_tokens", 0),
    }
    return {**usage, "estimated": True} if told.get("estimated") else usage
