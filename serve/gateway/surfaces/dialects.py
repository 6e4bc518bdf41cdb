"""What each surface does differently on the completion path: translation, envelope, headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from serve.gateway import errors
from serve.gateway.errors import GatewayError
from serve.gateway.surfaces import messages, responses
from serve.gateway.surfaces.surface import Surface
from serve.gateway.surfaces.translation import Translate

NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one surface does differently, the same for all its requests."""

    translate: Translate | None = None
    """Translates a request into a chat completion; None where nothing is translated."""
    envelope: Callable[[GatewayError], bytes] = errors.envelope
    request_id: bytes | None = None
    """A header in which its clients look for the request's id, besides ours."""
    to_engine: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    """Headers without which engines do not answer."""


PLAIN = Dialect()
DIALECTS: Mapping[Surface, Dialect] = {
    Surface.responses: Dialect(translate=responses.translate, envelope=responses.envelope),
    Surface.messages: Dialect(
        translate=messages.translate, envelope=messages.envelope, request_id=messages.REQUEST_ID
    ),
    Surface.count: Dialect(
        envelope=messages.envelope,
        request_id=messages.REQUEST_ID,
        to_engine={messages.VERSION: messages.VERSIONS},
    ),
}
