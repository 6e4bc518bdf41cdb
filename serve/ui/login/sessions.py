"""Who is signed in, known by a cookie; forgotten when the page's process ends."""

from __future__ import annotations

import secrets

from starlette.requests import HTTPConnection


class Sessions:
    """Cookies that were given out, and to whom."""

    def __init__(self) -> None:
        # Cookies are one for all ports of a host: two pages there must not take each other's.
        self.cookie = f"hanlin-{secrets.token_hex(4)}"
        self._users: dict[str, str] = {}

    def begin(self, user: str) -> str:
        """The value of a cookie by which this user is known from now on."""
        token = secrets.token_urlsafe(32)
        self._users[token] = user
        return token

    def user(self, connection: HTTPConnection) -> str | None:
        """The name of who is there; None for somebody who has not signed in."""
        return self._users.get(connection.cookies.get(self.cookie, ""))

    def end(self, user: str) -> None:
        """Sign a user out, wherever they are signed in."""
        self._users = {token: name for token, name in self._users.items() if name != user}
