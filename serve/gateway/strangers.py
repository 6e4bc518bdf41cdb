"""Refuses requests that web pages of other origins make, where the gateway has no keys.

Without keys nothing else stops them: a browser sends what looks like a form without asking first,
and only keeps the answer from the page; the engine would have done the work. Where the gateway
listens on this machine only, a page may also resolve its own host name to this machine (DNS
rebinding) and read everything. Other programs send neither `Origin` nor `Sec-Fetch-Site`, and
have no reason to invent a host name.

`origins` is about the opposite: which pages may ask, and read what they are told (CORS).
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from serve.addresses import LOOPBACKS
from serve.gateway.errors import StrangerError

WEB = ("http", "https")
"""Schemes of pages; with another one it is an application that shows its own."""

OWN_SITE = (b"same-origin", b"none")
"""What a browser says of a request from a page of the gateway's own origin, or from nobody's."""

PRIVATE_SUFFIXES = (".localhost", ".local", ".internal")
"""No name in the public DNS ends so."""

NAMES = 256
"""How many hosts and origins it is remembered of what they are."""


class Strangers:
    """Keeps out pages of all origins but these. `local`: nobody but this machine reaches us."""

    def __init__(self, allowed: Collection[str], *, local: bool) -> None:
        self._hosts = frozenset(urlsplit(origin).hostname for origin in allowed)
        self._allowed = frozenset(allowed)
        self._local = local
        self._trusted = functools.lru_cache(NAMES)(self._is_trusted)
        self._known = functools.lru_cache(NAMES)(self._is_known)

    def keep_out(self, headers: Iterable[tuple[bytes, bytes]], *, asks: bool = True) -> None:
        """Return if this is no page's request, or of one that may; one that only looks (`asks` is
        false) tells a page of another origin nothing, for its browser keeps the answer from it.

        Raises:
            StrangerError: a page sent it that may not.
        """
        host = origin = site = b""
        for name, value in headers:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        if self._local and host and not self._known(host):
            called = _hostname(host)
            raise StrangerError(
                "This gateway has no keys and is for this machine only, where nothing is called "
                f"'{called}'; start it with --keys FILE or, if that is its name, with "
                f"--cors-origin https://{called}."
            )
        if asks and _from_elsewhere(host, origin, site) and not self._trusted(origin):
            named = origin.decode("latin-1")
            raise StrangerError(
                f"This gateway has no keys, and is not open to web pages of '{named}'; start it "
                "with --cors-origin and the page's origin, or with --keys FILE."
            )

    def _is_trusted(self, origin: bytes) -> bool:
        named = origin.decode("latin-1")
        scheme, found, _ = named.partition("://")
        if not found:  # "null": a page in a sandbox, or one that hides where it is from
            return False
        return named in self._allowed or scheme not in WEB or _is_this_machine(_hostname(origin))

    def _is_known(self, host: bytes) -> bool:
        name = _hostname(host)
        return "." not in name or _is_private(name) or name in self._hosts


def _from_elsewhere(host: bytes, origin: bytes, site: bytes) -> bool:
    """Whether a page of another origin sent it. Browsers say so themselves, but only to who is
    asked over TLS or on their own machine."""
    if site:
        return site not in OWN_SITE
    return bool(origin) and origin.partition(b"://")[2] != host


def _hostname(place: bytes) -> str:
    """The name or address in an origin, or in what stands in the header Host."""
    try:
        name = urlsplit(b"//" + place.rpartition(b"://")[2]).hostname or b""
    except ValueError:
        name = place
    return name.decode("latin-1").rstrip(".")


def _is_private(name: str) -> bool:
    """Whether it is an address, or a name that nobody can give out for the world."""
    return name.endswith(PRIVATE_SUFFIXES) or _address(name) is not None


def _is_this_machine(name: str) -> bool:
    address = _address(name)
    loops = address is not None and address.is_loopback
    return name in LOOPBACKS or name.endswith(".localhost") or loops


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
