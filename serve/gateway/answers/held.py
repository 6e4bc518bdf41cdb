"""The text that one choice holds back while it may still become a stop string.

Log probabilities belong to the text they came with: they are sent when all of it has been, and
never where a stop has taken any of it.
"""

from __future__ import annotations

from typing import Any

from serve.gateway.answers.fixes import Json
from serve.gateway.answers.stop import Scanner, Stops


class Held:
    """The text and the log probabilities of one choice on their way through."""

    __slots__ = ("_scanner", "_waiting")

    def __init__(self, stops: Stops) -> None:
        self._scanner = Scanner(stops)
        self._waiting: list[tuple[int, Json]] = []

    @property
    def met(self) -> bool:
        return self._scanner.met

    @property
    def word(self) -> str | None:
        """The stop that was met."""
        return self._scanner.word

    def feed(self, text: str) -> str:
        return self._scanner.feed(text)

    def rest(self) -> str:
        return self._scanner.rest()

    def chances(self, found: Json | None) -> Json | None:
        """The log probabilities of what has been sent by now, of those that came before and now."""
        if found is not None:
            self._waiting.append((self._scanner.read, found))
        passed = self._scanner.passed
        ready = [chances for at, chances in self._waiting if at <= passed]
        self._waiting = self._waiting[len(ready) :]
        return _joined(ready) if ready else None


def _joined(parts: list[Json]) -> Json:
    """One after the other, list by list."""
    joined: dict[str, Any] = dict(parts[0])
    for part in parts[1:]:
        for name, value in part.items():
            before = joined.get(name)
            joined[name] = before + value if before and value else before or value
    return joined
