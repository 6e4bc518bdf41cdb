"""What an engine says, made up: chat completions whole and streamed, as plans of the stand-in."""

from __future__ import annotations

import json
from typing import Any

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 12},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
ARGUMENTS = '{"city": "北京"}'
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "wishes"}


def called(*pieces: str, number: int = 0, name: str = "weather") -> list[dict[str, Any]]:
    """The deltas of a call, its arguments in pieces."""
    first, *others = pieces
    function = {"name": name, "arguments": first}
    call = {"index": number, "id": f"call_{number}", "type": "function", "function": function}
    more = [{"index": number, "function": {"arguments": piece}} for piece in others]
    return [{"tool_calls": [piece]} for piece in (call, *more)]


def events(*deltas: dict[str, Any], finish: str = "stop") -> bytes:
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    chunks.append({"choices": [], "usage": USAGE})
    said = [{**HEAD, "object": "chat.completion.chunk", **chunk} for chunk in chunks]
    lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in said]
    return ("".join(lines) + "data: [DONE]\n\n").encode()


def whole(*, finish: str = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    answer = {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    return json.dumps(answer, ensure_ascii=False).encode()


def call(arguments: str = ARGUMENTS, name: str = "weather") -> dict[str, Any]:
    return {"id": "call_0", "type": "function", "function": {"name": name, "arguments": arguments}}


def streamed(*deltas: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    """A plan of an engine that streams this."""
    body = events(*deltas, finish=finish)
    return {"raw": True, "kind": "text/event-stream", "body": body}


def told(*, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A plan of an engine that answers this."""
    return {"raw": True, "body": whole(finish=finish, **message)}
