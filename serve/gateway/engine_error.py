"""Reads what engines say when they fail, in each of the shapes they say it, and says it our way.

LMDeploy answers flat objects, llama.cpp nested ones with numbers for codes, web frameworks
`{"detail": …}`, and a crash plain text. Clients only ever see the gateway's own envelope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from serve.gateway.errors import (
    EngineBusyError,
    EngineFailedError,
    EngineRefusedError,
    GatewayError,
    NotReadyError,
)

OPENAI_CODES = {"exceed_context_size_error": "context_length_exceeded"}
"""Where an engine has a word of its own for what OpenAI's clients know by another."""

OUR_OWN_MISTAKE = (401, 403)
"""An engine that wants a key wants it from the gateway; its client can do nothing about it."""

LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Said:
    """What could be understood of an engine's error."""

    message: str
    code: str | None = None
    param: str | None = None


def from_reply(assistant: str, status: int, body: bytes) -> GatewayError:
    """The error a client is told when an engine answered with a status other than 200."""
    said = read(body)
    if status == 503:
        return NotReadyError(f"The engine of '{assistant}' is not ready: {said.message}")
    if status == 429:
        return EngineBusyError(f"The engine of '{assistant}' takes no more: {said.message}")
    if 400 <= status < 500 and status not in OUR_OWN_MISTAKE:
        return EngineRefusedError(status, said.message, code=said.code, param=said.param)
    return EngineFailedError(f"The engine of '{assistant}' answered {status}: {said.message}")


def from_event(assistant: str, data: bytes) -> GatewayError:
    """The error a client is told when an engine failed after it had begun to stream."""
    return EngineFailedError(f"The engine of '{assistant}' failed: {read(data).message}")


def read(body: bytes) -> Said:
    """Understand an error body as far as it goes."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Said(_plain(body))
    if isinstance(found, dict):
        return _from_object(found)
    return Said(_plain(body))


def _from_object(found: dict[str, Any]) -> Said:
    inner = found.get("error", found)
    if not isinstance(inner, dict):
        return Said(str(inner))
    message = inner.get("message") or inner.get("text") or inner.get("detail")
    kind, code, param = inner.get("type"), inner.get("code"), inner.get("param")
    if isinstance(kind, str):
        code = OPENAI_CODES.get(kind, code)
    return Said(
        str(message) if message else "it gave no reason",
        code if isinstance(code, str) else None,
        param if isinstance(param, str) else None,
    )


def _plain(body: bytes) -> str:
    text = body[:LONGEST_TEXT].decode("utf-8", "replace").strip()
    if not text or text.startswith("<"):  # an HTML page is written for nobody who reads this
        return "it gave no reason"
    return text
