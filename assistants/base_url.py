"""Base URLs of engines that run elsewhere: what is wrong with one, said before it is ever asked."""

from __future__ import annotations

from urllib.parse import urlsplit

SCHEMES = ("http", "https")


def checked(url: str) -> str:
    """The same URL, if requests can be sent below it.

    Raises:
        ValueError: they cannot; it says why.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError as error:  # of brackets and ports that are none
        raise ValueError(f"'{url}' is not a URL: {error}") from None
    if scheme not in SCHEMES or not url[len(scheme) :].startswith("://"):
        raise ValueError(f"'{url}' is not an http:// or https:// base URL")
    if not host or port == 0:
        what = "port" if host else "host"
        raise ValueError(f"'{url}' names no {what}; a base URL is like http://gpu1:23333")
    if "?" in url or "#" in url or any(map(str.isspace, url)):
        raise ValueError(f"'{url}' is more than a base URL, which is like http://gpu1:23333")
    return url
