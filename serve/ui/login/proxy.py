"""Who comes through a proxy that has signed them in: it says their name in a header.

Anybody can write a header. So nobody else may reach the page: what does not come from the proxy's
own address is turned away, and so is what comes without a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from assistants import HanlinError
from serve.ui.texts import preferred, texts

Networks = tuple[IPv4Network | IPv6Network, ...]


def networks(text: str) -> Networks:
    """Addresses and networks, comma separated.

    Raises:
        HanlinError: one of them is neither.
    """
    found: list[IPv4Network | IPv6Network] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(ip_network(part, strict=False))
        except ValueError as error:
            raise HanlinError(
                f"'{part}' is no address and no network; --proxies wants some like "
                "127.0.0.1,10.0.0.0/8."
            ) from error
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Proxy:
    """The header that is believed, and from whom."""

    header: str
    networks: Networks

    def user(self, connection: HTTPConnection) -> str | None:
        """The name of who is there; None for somebody who did not come through the proxy."""
        name = connection.headers.get(self.header, "").strip()
        if (
            not name
            or connection.client is None
            or not _within(connection.client.host, self.networks)
        ):
            return None
        return name


def _within(host: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


class Gate:
    """Turns everybody away who did not come through the proxy, whatever they ask for."""

    def __init__(self, app: ASGIApp, proxy: Proxy) -> None:
        self.app = app
        self.proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if self.proxy.user(connection) is not None:
            await self.app(scope, receive, send)
            return
        language = preferred(None, connection.headers.get("accept-language"))
        said = escape(texts(language).not_let_in)
        page = f'<!doctype html><meta charset="utf-8"><title>403</title><p>{said}</p>'
        await HTMLResponse(page, status_code=403)(scope, receive, send)
