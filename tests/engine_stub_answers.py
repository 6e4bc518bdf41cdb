"""What a stand-in engine says: the same words, in each of the forms that OpenAI gives an answer."""

from __future__ import annotations

import json
from typing import Any

from tests.engine_stub_wire import Seen


def words(count: int) -> list[str]:
    return [f"word{number} " for number in range(count)]


def as_event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def delta(seen: Seen, text: str, finish: str | None) -> dict[str, Any]:
    base = {"id": "chatcmpl-1", "created": 1, "model": seen.json["model"]}
    if seen.path == "/v1/completions":
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": finish}
        return {**base, "object": "text_completion", "choices": [choice]}
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {**base, "object": "chat.completion.chunk", "choices": [choice]}


def answer(seen: Seen, text: str, finish: str | None) -> dict[str, Any]:
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    base = {"id": "chatcmpl-1", "created": 1, "model": seen.json["model"], "usage": usage}
    if seen.path == "/v1/completions":
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": finish}
        return {**base, "object": "text_completion", "choices": [choice]}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {**base, "object": "chat.completion", "choices": [choice]}
