"""How fast an answer came and how long it is, as the client sees it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

TOGETHER_SECONDS = 0.1
"""What lies between the first token and the last is no measure of the engine's speed where it is
less: a buffer on the way holds as much back."""


class Usage(Protocol):
    """What the gateway counts of an answer."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds since the question was sent, and tokens; None until it is known."""

    first: float | None = None
    last: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    estimated: bool = False

    def heard(self, seconds: float, text: str, usage: Usage | None) -> Figures:
        """The figures after one more event; the one that counts the tokens brings no text."""
        if usage is not None:
            return replace(
                self,
                tokens_in=usage.prompt_tokens,
                tokens_out=usage.completion_tokens,
                estimated=bool(getattr(usage, "estimated", False)),
            )
        if not text:
            return self
        return replace(self, first=self.first or seconds, last=seconds)

    @property
    def per_second(self) -> float | None:
        """Tokens a second once they came, without the wait for the first.

        Tokens that came all together were made while the first was waited for; that counts then.
        """
        if self.tokens_out is None or self.first is None or self.last is None:
            return None
        spent = self.last - self.first
        if spent < TOGETHER_SECONDS:
            return self.tokens_out / self.last if self.last > 0 else None
        return (self.tokens_out - 1) / spent if self.tokens_out > 1 else None


NOTHING_YET = Figures()
