"""CORS: the web pages of which other origins may ask from a browser and read the answers.

A page shows its key itself, in a header, and no cookie means anything here. So a browser is never
told that it may send credentials (`Access-Control-Allow-Credentials`). Requests of pages that are
not allowed are refused in `strangers`, where no keys keep them out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydantic_core import Url, ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from assistants import HanlinError
from serve.gateway.admission.rates import NAMES
from serve.gateway.surfaces.messages import REQUEST_ID

ALL = "*"

METHODS = ("GET", "POST")
READABLE = (
    "x-request-id",
    REQUEST_ID.decode(),
    "retry-after",
    *(name.decode() for names in NAMES.values() for name in names),
)
"""What a page may read of an answer's head, besides what it always may."""


class Shared(CORSMiddleware):
    """An application that answers pages of these origins too; whatever headers they send."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=(ALL,),
            expose_headers=READABLE,
            allow_private_network=True,
        )

    def head(self, asked: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """What the head of an answer has to say that the application is not asked for."""
        origin = Headers(raw=list(asked)).get("origin")
        if origin is None or not self.is_allowed_origin(origin):
            return []
        told = MutableHeaders(self.simple_headers)
        if not self.allow_all_origins:
            self.allow_explicit_origin(told, origin)
        return told.raw


def origins(given: Iterable[str]) -> tuple[str, ...]:
    """Origins as browsers write them, of such lists of them as people do.

    Raises:
        HanlinError: one of them is none.
    """
    parts = (part.strip() for text in given for part in text.split(","))
    return tuple(dict.fromkeys(_origin(part) for part in parts if part))


def _origin(text: str) -> str:
    if text == ALL:
        return ALL
    try:
        url = Url(text)
    except ValidationError:
        url = None
    if url is None or not url.host or ALL in url.host:
        raise HanlinError(
            f"'{text}' is no origin; --cors-origin wants some like https://page.example.org or "
            "http://localhost:3000, or * for all."
        )
    bare = str(Url.build(scheme=url.scheme, host=url.host, port=url.port))
    if bare != str(url):
        raise HanlinError(
            f"'{text}' is more than an origin; --cors-origin wants {bare.removesuffix('/')}."
        )
    return bare.removesuffix("/")
