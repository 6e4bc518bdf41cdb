"""Errors in Anthropic's envelope."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from serve.gateway.answers.fixes import Json
from serve.gateway.errors import GatewayError

TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def failure(error: GatewayError) -> Json:
    """The error object, which is also the last event of a stream that failed."""
    other = "api_error" if error.status >= 500 else "invalid_request_error"
    told = {"type": TYPES.get(error.status, other), "message": str(error)}
    return {"type": "error", "error": told}


def envelope(error: GatewayError) -> bytes:
    return msgspec.json.encode(failure(error))
