"""Whatever goes wrong between page and assistant, as one sentence for a person. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

import openai

from serve.ui.texts import Texts

FAILURES = (openai.APIError, json.JSONDecodeError)
"""What the client raises: its own errors, and what is left of an event cut in half."""


def sentence(error: Exception, words: Texts, *, begun: bool = False) -> tuple[str, str]:
    """What went wrong, as one sentence for a person, and the gateway's own where it says more."""
    if begun:
        return words.broke_off, ""
    match error:
        case openai.APITimeoutError() | openai.APIStatusError(status_code=504):
            return words.slow, ""
        case openai.APIConnectionError():
            return words.gone, ""
        case openai.AuthenticationError():
            return words.locked, ""
        case openai.NotFoundError():
            return words.unknown_model, ""
        case openai.RateLimitError():
            return words.busy, ""
        case openai.APIError(code="context_length_exceeded" | "request_too_large"):
            return words.too_long, ""
        case openai.APIStatusError(status_code=status) if status < 500:
            return words.refused, reason(error)
        case _:
            return words.failed, reason(error)


def reason(error: Exception) -> str:
    """The gateway's own sentence, without the client's framing of it."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping) and isinstance(inner.get("message"), str):
            return str(inner["message"])
    return str(error)
