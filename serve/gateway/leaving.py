"""How the work for a client learns that the client has left, without a task that waits for it.

ASGI has a message for this, but whoever waits for it is a second task for every request, which
costs a tenth of all the gateway does. So the connection tells. Behind another server than ours
nobody tells, and work goes on for who has left.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope

EXTENSION = "hanlin.leaving"


class Leaving:
    """Whether the client at one connection has left, and whom to tell."""

    __slots__ = ("gone", "tell")

    def __init__(self) -> None:
        self.gone = False
        self.tell: Callable[[], None] | None = None

    def happened(self) -> None:
        self.gone = True
        if self.tell is not None:
            self.tell()


def leaving(scope: Scope) -> Leaving:
    found = scope.get("extensions", {}).get(EXTENSION)
    return found if isinstance(found, Leaving) else Leaving()
