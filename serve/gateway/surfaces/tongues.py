"""Which surface is spoken how: what the path of a request does differently for each."""

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
class Tongue:
    """The words of one surface, as far as they are the same for all its requests."""

    translate: Translate | None = None
    """Makes a chat completion of a request; None where it is one, or is none at all."""
    envelope: Callable[[GatewayError], bytes] = errors.envelope
    request_id: bytes | None = None
    """A header in which its clients look for the request's id, besides ours."""
    to_engine: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    """Headers without which engines do not answer."""


PLAIN = Tongue()
TONGUES: Mapping[Surface, Tongue] = {
    Surface.responses: Tongue(translate=responses.translate, envelope=responses.envelope),
    Surface.messages: Tongue(
        translate=messages.translate, envelope=messages.envelope, request_id=messages.REQUEST_ID
    ),
    Surface.count: Tongue(
        envelope=messages.envelope,
        request_id=messages.REQUEST_ID,
        to_engine={messages.VERSION: messages.VERSIONS},
    ),
}
