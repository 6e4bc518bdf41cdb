"""What a connection to a client can tell and do beyond ASGI, because ASGI's way is dear.

ASGI has a message for a client that left, but whoever waits for it is a second task for every
request, which costs a tenth of all the gateway does; and sending a part of an answer is a coroutine
of its own for every token. So the connection itself tells, and writes. Behind another server than
ours nobody tells, and work goes on for who has left.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope

EXTENSION = "hanlin.line"


class Line:
    """Whether the client at one connection has left, whom to tell, and a way to write at once."""

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


def line(scope: Scope) -> Line:
    found = scope.get("extensions", {}).get(EXTENSION)
    return found if isinstance(found, Line) else Line()
