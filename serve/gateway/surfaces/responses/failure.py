"""Errors in the envelope of OpenAI's Responses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from serve.gateway import errors
from serve.gateway.answers.fixes import Json
from serve.gateway.errors import GatewayError
from serve.gateway.surfaces.translation import UntranslatableError

NAMES: Mapping[str, str] = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "include",
    "stream_options": "stream",
}
"""What a chat calls otherwise: a client must find in its own request what was wrong with it."""

_FIRST = re.compile(r"\w+")


def envelope(error: GatewayError) -> bytes:
    """OpenAI's envelope is the same for all its surfaces; only the field is another."""
    return errors.envelope(error, param=name_here(error))


def name_here(error: GatewayError) -> str | None:
    """The name of a field in the client's request."""
    first = _FIRST.match(error.param or "")
    if first is None or isinstance(error, UntranslatableError):
        return error.param
    return NAMES.get(first[0], error.param)


def code(error: GatewayError) -> str:
    """The few words that a failed response may give as its reason."""
    if error.status == 429:
        return "rate_limit_exceeded"
    return "invalid_prompt" if 400 <= error.status < 500 else "server_error"


def event(error: GatewayError, number: int) -> Json:
    """The event that says so in the middle of a stream."""
    told = {"code": error.code, "message": str(error), "param": name_here(error)}
    return {"type": "error", **told, "sequence_number": number}
