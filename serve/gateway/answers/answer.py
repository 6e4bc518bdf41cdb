"""A whole (non-streamed) answer: validated, repaired, and its usage read."""

from __future__ import annotations

import msgspec

from serve.gateway.answers import engine_error, shape
from serve.gateway.answers.asked import Asked
from serve.gateway.answers.event import object_of
from serve.gateway.answers.fixes import Json, apply
from serve.gateway.answers.fold import fold
from serve.gateway.answers.shape import Face
from serve.gateway.answers.usage import Usage
from serve.gateway.errors import EngineFailedError


def whole(body: bytes, asked: Asked) -> tuple[bytes, Usage | None]:
    """What the client is sent of an engine's answer, byte for byte where nothing is amiss.

    Raises:
        GatewayError: it came under 200 and is no answer.
    """
    found = object_of(body)
    if found is None or not shape.is_whole(found):
        said = engine_error.read(body).message
        raise EngineFailedError(f"The engine of '{asked.assistant}' gave no answer: {said}")
    if (word := shape.failed(found)) is not None:
        raise EngineFailedError(f"The engine of '{asked.assistant}' gave its answer up ({word}).")
    changed = _reshape(found, asked)
    counted = found.get("usage")
    if counted is None:
        return msgspec.json.encode(found) if changed else body, None
    usage = Usage(counted["prompt_tokens"], counted["completion_tokens"])
    if not usage.completion and all(map(_is_full, found["choices"])):
        raise engine_error.said_nothing(asked.assistant)
    return msgspec.json.encode(found) if changed else body, usage


def folded(events: bytes, asked: Asked) -> bytes:
    """The whole answer that was asked for as a stream."""
    found = fold(events)
    _reshape(found, asked)
    return msgspec.json.encode(found)


def _reshape(found: Json, asked: Asked) -> bool:
    face = Face(found, model=asked.assistant, chat=asked.chat, stream=False, usage=True)
    return apply(shape.answer(found, face))


def _is_full(choice: Json) -> bool:
    """Whether it ended for want of room, and that before the first word."""
    said = choice.get("message", choice)
    return choice["finish_reason"] == "length" and not (said.get("content") or said.get("text"))
