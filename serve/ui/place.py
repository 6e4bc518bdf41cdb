"""Where a person is on the page: as its address says it, and as the page remembers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlencode

CHAT, PAIR, STATUS = "", "pair", "status"
VIEWS = (CHAT, PAIR, STATUS)


@dataclass(slots=True)
class Here:
    """Where one open page is, and in which language.

    An act is told what was remembered when it began, and quick hands begin the next before the last
    is done. So this is changed in its place and never replaced: every act finds it as the one
    before has left it.
    """

    language: str = "en"
    view: str = CHAT
    chosen: str = ""
    step: int = 0
    """Of all that the browser took, the last (hands.js)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A view, and whom or what it shows."""

    view: str = CHAT
    assistant: str = ""
    prompt: str = ""
    left: str = ""
    right: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Self:
        """What the parameters of an address say; what is not known is passed over."""
        view = asked.get("view", CHAT)
        rest = {name: asked.get(name, "") for name in ("assistant", "prompt", "left", "right")}
        return cls(view if view in VIEWS else CHAT, **rest)

    @classmethod
    def at(cls, address: str) -> Self:
        """The same, from the address as text."""
        return cls.of(dict(parse_qsl(address.partition("?")[2])))

    @property
    def address(self) -> str:
        """The address that leads there."""
        named = {"view": self.view, "assistant": self.assistant}
        asked = urlencode({name: value for name, value in named.items() if value})
        return f"?{asked}" if asked else "./"
