"""The root of every error a person is shown, and what the declaration itself can get wrong.

HanlinError
├── DeclarationError          a YAML file says something that cannot be
├── UnknownAssistantError     a name nobody declared
├── convert.errors.ConvertError …
├── serve.process.ProcessError …
└── serve.gateway.errors.GatewayError …   (these also know their HTTP status)

An error is one sentence: what, where, and the nearest right answer. `hanlin.__main__` is the one
place that prints them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class HanlinError(Exception):
    """Something a person can put right; `str(error)` is the whole sentence shown to them."""


class DeclarationError(HanlinError):
    """A declaration file that cannot be used, with the line where it went wrong (from 1)."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


class UnknownAssistantError(HanlinError):
    """A name that is neither an assistant nor an alias; `nearest` is what was likely meant."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = list(known)
        self.name = name
        self.nearest = nearest(name, names)
        hint = f" Did you mean '{self.nearest}'?" if self.nearest else ""
        super().__init__(
            f"There is no assistant '{name}'.{hint} Declared: {', '.join(names) or 'none'}."
        )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None where nothing is alike enough to suggest."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.5)
    return by_folded[found[0]] if found else None
