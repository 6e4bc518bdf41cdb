"""How a long step reports its progress; the command draws the bars."""

from __future__ import annotations

from typing import Protocol


class Task(Protocol):
    """One thing that is going on."""

    def advance(self, n: int) -> None:
        """`n` more bytes are done."""


class Progress(Protocol):
    """Somebody who wants to know."""

    def task(self, label: str, total_bytes: int | None) -> Task:
        """Something of `total_bytes` (None: nobody knows) begins."""


class Unwatched:
    """Nobody is looking: progress and its own task at once."""

    def task(self, label: str, total_bytes: int | None) -> Task:
        return self

    def advance(self, n: int) -> None:
        return None
