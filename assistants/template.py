"""The prompt template: which placeholders stand in it, and whether they are those of controls."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterable

from assistants.errors import nearest

MESSAGE = "message"
"""The placeholder of a prompt template that stands for what the person typed."""
_NAME = re.compile(r"[^\W\d][\w-]*")


def placeholders(template: str) -> set[str]:
    """The names that stand in it.

    Raises:
        ValueError: a brace opens or closes nothing, or there is more in it than a name.
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError("a brace has no partner; write {{ or }} for a literal one") from error
    for _, name, form, conversion in pieces:
        if name == "" or form or conversion:
            raise ValueError(
                f"a placeholder is a name in braces and no more, such as {{{MESSAGE}}}"
            )
    return {name for _, name, _, _ in pieces if name}


def require_names(controls: Iterable[str]) -> None:
    """Return if each can be a placeholder.

    Raises:
        ValueError: one cannot.
    """
    for name in controls:
        if name == MESSAGE or not _NAME.fullmatch(name):
            raise ValueError(
                f"'{name}' cannot name a control: letters, digits, '_' and '-' can, a letter "
                f"first, and '{MESSAGE}' is what a person types"
            )


def require_all(template: str, controls: Collection[str]) -> None:
    """Return if a template names every control, and nothing else but the message.

    Raises:
        ValueError: it does not.
    """
    named = placeholders(template)
    if unknown := sorted(named - set(controls) - {MESSAGE}):
        near = nearest(unknown[0], (*controls, MESSAGE))
        hint = f"; did you mean '{near}'?" if near else ""
        raise ValueError(f"names {unknown[0]}, which is not a control{hint}")
    if unused := sorted(set(controls) - named):
        raise ValueError(f"leaves out the control {', '.join(unused)}")
