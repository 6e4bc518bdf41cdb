"""The one way a prompt is made, for training, gateway, terminal, page and evaluation alike.

Two decisions, both pure: which messages of a conversation an engine is sent (`select`), and what
text the page's controls stand for (`render`). How messages become tokens is the chat template's
business, which travels with the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assistants.errors import HanlinError
from assistants.schema import Assistant, ClientSystem, History
from assistants.template import MESSAGE

SYSTEM_ROLES = ("system", "developer")


class SystemRefusedError(HanlinError):
    """A client sent a system message to an assistant that takes none."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What goes to the engine: the assistant's system text to put first (None: it puts none), and
    the indices of the client's messages that follow it, in order."""

    own_system: str | None
    kept: tuple[int, ...]
    joins: tuple[int, ...] = ()
    """Indices of client system messages whose text is joined to `own_system`."""


def select(assistant: Assistant, roles: Sequence[str]) -> Selection:
    """Apply the assistant's system prompt and history rule to a conversation given by its roles.

    Raises:
        SystemRefusedError: the client sent a system message and the assistant refuses them.
    """
    system = tuple(i for i, role in enumerate(roles) if role in SYSTEM_ROLES)
    turns = tuple(i for i, role in enumerate(roles) if role not in SYSTEM_ROLES)
    if system and assistant.client_system is ClientSystem.refuse:
        raise SystemRefusedError(
            f"The assistant '{assistant.name}' has its own system prompt and takes no other."
        )
    if assistant.history is History.none:
        last = max((i for i in turns if roles[i] == "user"), default=None)
        turns = turns if last is None else tuple(i for i in turns if i >= last)
    if assistant.system is None:
        return Selection(None, tuple(sorted((*system, *turns))))
    if not system:
        return Selection(assistant.system, turns)
    if assistant.client_system is ClientSystem.append:
        return Selection(assistant.system, turns, joins=system)
    return Selection(None, tuple(sorted((*system, *turns))))


def messages(
    assistant: Assistant, conversation: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """The messages an engine is sent for a plain conversation of role and content."""
    choice = select(assistant, [turn["role"] for turn in conversation])
    kept = [dict(conversation[i]) for i in choice.kept]
    if choice.own_system is None:
        return kept
    joined = "\n\n".join([choice.own_system, *(conversation[i]["content"] for i in choice.joins)])
    return [{"role": "system", "content": joined}, *kept]


def render(assistant: Assistant, values: Mapping[str, str], message: str = "") -> str:
    """The prompt that the controls' values (or their start values) and a typed message stand for.

    Raises:
        ValueError: a value that a control does not offer.
    """
    pieces = {
        name: control.render(values.get(name, control.start_value))
        for name, control in assistant.controls.items()
    }
    return assistant.template.format_map({**pieces, MESSAGE: message})
