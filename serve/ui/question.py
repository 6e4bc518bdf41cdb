"""What is asked of an assistant: the conversation, and what was set in the drawer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve.ui.house import Assistant

Turn = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person set differently; None leaves it to the assistant."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    system: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The sampling as fields of a request, those that were set."""
        named = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
        }
        return {name: value for name, value in named.items() if value is not None}


def wish(
    assistant: Assistant, temperature: float, top_p: float, max_tokens: float, system: str
) -> Wish:
    """What the drawer shows, less what the assistant would do anyway."""
    usual = assistant.sampling
    own = (assistant.system or "") if assistant.client_system == "replace" else ""
    may_say = assistant.client_system != "refuse" and system.strip() != own.strip()
    return Wish(
        temperature=None if temperature == usual.temperature else temperature,
        top_p=None if top_p == usual.top_p else top_p,
        max_tokens=None if max_tokens == assistant.usual_tokens else int(max_tokens),
        system=system.strip() if may_say else None,
    )


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation that ends with a person's words, for one assistant."""

    assistant: Assistant
    conversation: Sequence[Turn]
    wish: Wish = Wish()

    @property
    def messages(self) -> list[dict[str, str]]:
        """What goes to the gateway: all turns, or the last where each stands alone."""
        turns = [{"role": t["role"], "content": t["content"]} for t in self.conversation]
        turns = turns[-1:] if self.assistant.history == "none" else turns
        if self.wish.system is None:
            return turns
        return [{"role": "system", "content": self.wish.system}, *turns]

    @property
    def whole(self) -> list[dict[str, str]]:
        """The messages as the engine gets them, with the assistant's own system prompt."""
        turns = [turn for turn in self.messages if turn["role"] != "system"]
        own, more = self.assistant.system, self.wish.system
        if more is not None and self.assistant.client_system == "replace":
            own, more = more, None
        system = "\n\n".join(part for part in (own, more) if part)
        return [{"role": "system", "content": system}, *turns] if system else turns
