"""Parses engines' error bodies, in each of their formats, into the gateway's own errors.

LMDeploy answers flat objects, llama.cpp nested ones with numbers for codes, web frameworks
`{"detail": …}`, and a crash plain text. Clients only ever see the gateway's own envelope.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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

TOO_LONG = "context_length_exceeded"

OUR_OWN_MISTAKE = (401, 403, 404, 405)
"""An engine that wants a key, or knows no such path or model, was asked wrongly by the gateway; its
client can do nothing about it."""

_SPEAKS_OF_CONTEXT = re.compile(r"context (length|size|window)", re.IGNORECASE)
_MEANS_THE_REQUEST = re.compile(
    r"(image|audio|video) input is not supported|Failed to parse (tools|messages|input)",
    re.IGNORECASE,
)
"""How llama.cpp, under a 500, says that it is the request that is wrong."""
_FIELD_FIRST = re.compile(r"([A-Za-z_][\w.\[\]]*): (.+)", re.DOTALL)
"""How LMDeploy says which field it means."""

LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Said:
    """What could be understood of an engine's error."""

    message: str
    code: str | None = None
    param: str | None = None
    status: int | None = None


def from_reply(assistant: str, status: int, body: bytes) -> GatewayError:
    """The error a client is told when an engine answered with a status other than 200."""
    said = read(body)
    if status == 503:
        return NotReadyError(f"The engine of '{assistant}' is not ready: {said.message}")
    if status == 429:
        return EngineBusyError(f"The engine of '{assistant}' takes no more: {said.message}")
    if 400 <= status < 500 and status not in OUR_OWN_MISTAKE:
        code = said.code or (TOO_LONG if _SPEAKS_OF_CONTEXT.search(said.message) else None)
        return EngineRefusedError(status, said.message, code=code, param=said.param)
    if _MEANS_THE_REQUEST.match(said.message):
        return EngineRefusedError(400, said.message, code=said.code, param=said.param)
    return EngineFailedError(f"The engine of '{assistant}' answered {status}: {said.message}")


def from_event(assistant: str, data: bytes) -> GatewayError:
    """The error a client is told when an engine failed, or refused, in place of an event."""
    said = read(data)
    if said.status is not None and 400 <= said.status < 500:
        return from_reply(assistant, said.status, data)
    return EngineFailedError(f"The engine of '{assistant}' failed: {said.message}")


def said_nothing(assistant: str) -> EngineRefusedError:
    """The error for an answer of no tokens that ended for want of room: until 0.16 that was all
    LMDeploy said of a prompt that is too long."""
    return EngineRefusedError(
        400,
        f"The engine of '{assistant}' generated nothing: the prompt leaves no room for an answer.",
        code=TOO_LONG,
        param=None,
    )


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
        return Said(_plain(str(inner).encode()))
    if isinstance(inner.get("detail"), list):
        return _from_fastapi(inner["detail"])
    message = inner.get("message") or inner.get("text") or inner.get("detail")
    kind, code, param = inner.get("type"), inner.get("code"), inner.get("param")
    told = str(message) if message else "it gave no reason"
    if param is None and (named := _FIELD_FIRST.fullmatch(told)):
        param = named[1]
    status = code if isinstance(code, int) and not isinstance(code, bool) else None
    if isinstance(kind, str):
        code = OPENAI_CODES.get(kind, code)
    return Said(
        told,
        code if isinstance(code, str) else None,
        param if isinstance(param, str) else None,
        status,
    )


def _from_fastapi(problems: Sequence[Any]) -> Said:
    """What pydantic found wrong with a body, one after the other; the first gives the field."""
    told: list[str] = []
    fields: list[str] = []
    for problem in problems:
        if not isinstance(problem, dict):
            told.append(str(problem))
            continue
        field = _place(problem.get("loc"))
        fields.append(field)
        what = str(problem.get("msg") or "is not right")
        told.append(f"{field}: {what}" if field else what)
    message = "; ".join(told)[:LONGEST_TEXT] or "it gave no reason"
    return Said(message, param=next(filter(None, fields), None))


def _place(where: Any) -> str:
    """`["body", "messages", 0, "role"]` as one would write it: `messages[0].role`."""
    if not isinstance(where, list):
        return ""
    place = ""
    for part in where[1:] if where[:1] == ["body"] else where:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return place


def _plain(body: bytes) -> str:
    text = body[:LONGEST_TEXT].decode("utf-8", "replace").strip()
    if not text or text.startswith("<"):  # an HTML page is written for nobody who reads this
        return "it gave no reason"
    return text
