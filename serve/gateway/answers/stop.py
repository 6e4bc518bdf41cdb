"""Stop strings, applied exactly, whatever the engine does with them.

TurboMind looks at no string of more than one token, and ends at any token that merely contains one.
So here text is read as it comes, character by character in effect: the stop that is complete first
ends it, wherever chunks begin and end; of several complete at once the longest counts, so that no
character of a stop is ever sent. Only what may still become a stop is held back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class Stops:
    """The strings that end one answer, made ready once."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._reach = max(len(word) for word in words) - 1
        self._first = re.compile("[" + "".join(re.escape(word[0]) for word in words) + "]")

    def first(self, text: str) -> tuple[int, int] | None:
        """Where the stop begins and ends that is complete first, or None where there is none."""
        ends = [(at + len(word), at) for word in self.words if (at := text.find(word)) >= 0]
        if not ends:
            return None
        end, begin = min(ends)
        return begin, end

    def begins(self, text: str) -> int:
        """Where at its end a stop may have begun; the length of the text where none has."""
        for first in self._first.finditer(text, max(0, len(text) - self._reach)):
            rest = text[first.start() :]
            if any(word.startswith(rest) for word in self.words):
                return first.start()
        return len(text)

    def possible(self, text: str) -> bool:
        """Whether any stop could begin in this text at all; far cheaper than looking for one."""
        return self._first.search(text) is not None


class Scanner:
    """Reads one choice of one answer."""

    __slots__ = ("_held", "_stops", "met", "passed", "read", "word")

    def __init__(self, stops: Stops) -> None:
        self._stops = stops
        self._held = ""
        self.met = False
        self.word: str | None = None
        """The stop that was met."""
        self.read = 0
        """Characters taken in so far."""
        self.passed = 0
        """Characters given out so far."""

    def feed(self, text: str) -> str:
        """What may be sent now that this has come; nothing more after a stop is `met`."""
        if self.met:
            return ""
        self.read += len(text)
        stops = self._stops
        if self._held:
            text = self._held + text
        elif not stops.possible(text):
            self.passed += len(text)
            return text
        if (found := stops.first(text)) is None:
            cut = stops.begins(text)
            self._held = text[cut:]
        else:
            cut, end = found
            self.met, self.word = True, text[cut:end]
            self._held = ""
        self.passed += cut
        return text[:cut]

    def rest(self) -> str:
        """What was held back, now that the answer has ended and it will not become a stop."""
        held, self._held = self._held, ""
        self.passed += len(held)
        return held
