"""The type of one repair: which field of which object gets which value.

A fix is applied as soon as it is yielded, before the next is looked for, so that whoever yields
them may read what the last one has just put there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

Json = dict[str, Any]
Fix = tuple[Json, str, Any]
"""An object, its field, and what that field must be."""

GONE: Final = object()
"""In place of a value: the field must not be there."""


def apply(fixes: Iterable[Fix]) -> bool:
    """Carry them out; whether there were any."""
    changed = False
    for target, name, value in fixes:
        changed = True
        if value is GONE:
            del target[name]
        else:
            target[name] = value
    return changed


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
