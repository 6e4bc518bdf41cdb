"""What a client connection offers beyond ASGI; ASGI's own way costs too much per event.

ASGI reports a client that left as a message, and waiting for it takes a second task for every
request: a tenth of the gateway's CPU. Sending a part of an answer is a coroutine for every token.
So the connection itself reports that the client left, and writes directly. Under a server other
than ours nobody reports it, and work goes on for a client that has left.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope

EXTENSION = "hanlin.client_connection"


class ClientConnection:
    """Whether the client has left, whom to tell of it, and a way to write at once."""

    __slots__ = ("gone", "tell", "write")

    def __init__(self, write: Callable[[bytes], bool] = lambda _: False) -> None:
        self.gone = False
        self.tell: Callable[[], None] | None = None
        self.write = write
        """Writes a part of an answer that has begun and has no stated length, unless the client has
        left or has yet to read what it was sent: False, and it is to be sent ASGI's way."""

    def left(self) -> None:
        self.gone = True
        if self.tell is not None:
            self.tell()


def client_connection(scope: Scope) -> ClientConnection:
    found = scope.get("extensions", {}).get(EXTENSION)
    return found if isinstance(found, ClientConnection) else ClientConnection()
