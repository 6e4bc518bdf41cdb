"""Serializes an answer as OpenAI's Responses."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence

import msgspec

from serve.gateway.answers.fixes import Json
from serve.gateway.errors import GatewayError
from serve.gateway.surfaces.blocks import Block
from serve.gateway.surfaces.pieces import Called, Said
from serve.gateway.surfaces.responses import failure
from serve.gateway.surfaces.retelling import Outcome, named

INCOMPLETE: Mapping[str, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The ends at which an answer is not whole."""

PARTS: Mapping[str, tuple[str, str]] = {
    "text": ("output_text", "text"),
    "refusal": ("refusal", "refusal"),
    "reasoning": ("reasoning_text", "text"),
}
"""Kind of block → the name of its part, and of what the part holds; its events are called so."""

PREFIXES = {"text": "msg_", "refusal": "msg_", "reasoning": "rs_", "call": "fc_"}
CALL = "function_call_arguments"


class ResponseSerializer:
    """The words for one response; `echo` is what it says of its request."""

    def __init__(self, echo: Json) -> None:
        self._number = 0
        self._echo = echo
        self._face = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "background": False,
            "store": False,
            "previous_response_id": None,
            "truncation": "disabled",
            "service_tier": "default",
        }

    def begin(self) -> bytes:
        response = self._response("in_progress", [])
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def alive(self) -> bytes:
        return b": the engine works\n\n"

    def opened(self, block: Block) -> bytes:
        item = _item(block, "in_progress", empty=True)
        told = self._event("response.output_item.added", output_index=block.index, item=item)
        if block.kind == "call":
            return told
        return told + self._of_part(block, "response.content_part.added", part=_part(block))

    def grew(self, block: Block, piece: Said | Called) -> bytes:
        if isinstance(piece, Called):
            return self._of_item(block, f"response.{CALL}.delta", delta=piece.text)
        kind, _ = PARTS[block.kind]
        chances = {"logprobs": piece.chances} if block.kind == "text" else {}
        return self._of_part(block, f"response.{kind}.delta", delta=piece.text, **chances)

    def closed(self, block: Block, outcome: Outcome) -> bytes:
        """All of it once more, whole, as it is published."""
        if block.kind == "call":
            all_of_it = {"arguments": block.text, "name": block.name}
            told = self._of_item(block, f"response.{CALL}.done", **all_of_it)
        else:
            kind, name = PARTS[block.kind]
            chances = {"logprobs": block.chances} if block.kind == "text" else {}
            told = self._of_part(block, f"response.{kind}.done", **{name: block.text}, **chances)
            told += self._of_part(block, "response.content_part.done", part=_part(block))
        status = "incomplete" if outcome.end.reason in INCOMPLETE else "completed"
        item = _item(block, status)
        return told + self._event("response.output_item.done", output_index=block.index, item=item)

    def end(self, blocks: Sequence[Block], outcome: Outcome) -> bytes:
        response = self._ended(blocks, outcome)
        return self._event(f"response.{response['status']}", response=response)

    def whole(self, blocks: Sequence[Block], outcome: Outcome) -> bytes:
        return msgspec.json.encode(self._ended(blocks, outcome))

    def envelope(self, error: GatewayError) -> bytes:
        return failure.envelope(error)

    def ending(self, error: GatewayError, blocks: Sequence[Block]) -> bytes:
        told = named(failure.event(error, self._next()))
        items = [_item(block, "incomplete") for block in blocks]
        why = {"code": failure.code(error), "message": str(error)}
        response = {**self._response("failed", items), "error": why}
        return told + self._event("response.failed", response=response)

    def _ended(self, blocks: Sequence[Block], outcome: Outcome) -> Json:
        why = INCOMPLETE.get(outcome.end.reason)
        status = "completed" if why is None else "incomplete"
        last = len(blocks) - 1
        items = [_item(block, status if block.index == last else "completed") for block in blocks]
        response = {**self._response(status, items), "usage": _usage(outcome.usage)}
        if why is None:
            return {**response, "completed_at": int(time.time())}
        return {**response, "incomplete_details": {"reason": why}}

    def _response(self, status: str, items: list[Json]) -> Json:
        nothing = {"error": None, "incomplete_details": None, "usage": None}
        return {**self._face, **self._echo, **nothing, "status": status, "output": items}

    def _of_item(self, block: Block, kind: str, **told: object) -> bytes:
        return self._event(kind, item_id=_id(block), output_index=block.index, **told)

    def _of_part(self, block: Block, kind: str, **told: object) -> bytes:
        return self._of_item(block, kind, content_index=0, **told)

    def _event(self, kind: str, **told: object) -> bytes:
        return named({"type": kind, "sequence_number": self._next(), **told})

    def _next(self) -> int:
        number, self._number = self._number, self._number + 1
        return number


def _id(block: Block) -> str:
    return PREFIXES[block.kind] + block.id


def _item(block: Block, status: str, *, empty: bool = False) -> Json:
    """A block as far as it has come; `empty` before its first part."""
    face = {"id": _id(block), "status": status}
    if block.kind == "call":
        named_so = {"call_id": block.call_id, "name": block.name, "arguments": block.text}
        return {"type": "function_call", **face, **named_so}
    content = [] if empty else [_part(block)]
    if block.kind == "reasoning":
        return {"type": "reasoning", **face, "summary": [], "content": content}
    return {"type": "message", **face, "role": "assistant", "content": content}


def _part(block: Block) -> Json:
    kind, name = PARTS[block.kind]
    part: Json = {"type": kind, name: block.text}
    return {**part, "annotations": [], "logprobs": block.chances} if block.kind == "text" else part


def _usage(told: Json) -> Json | None:
    if not told:
        return None
    details = told.get("prompt_tokens_details") or {}
    thought = (told.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    cached = details.get("cached_tokens") or 0
    usage = {
        "input_tokens": told["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": told["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": told["total_tokens"],
    }
    return {**usage, "estimated": True} if told.get("estimated") else usage
