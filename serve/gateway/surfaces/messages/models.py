"""The list of models in Anthropic's format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from serve.gateway.answers.fixes import Json
from serve.gateway.errors import BadRequestError

_NUMBER = re.compile("[0-9]{1,4}")

MOST = 1000
USUAL = 20


def model(card: Json) -> Json:
    """One model, of what the catalogue tells of an assistant."""
    return {
        "type": "model",
        "id": card["id"],
        "display_name": card["title"]["en"],
        "created_at": datetime.fromtimestamp(card["created"], UTC).isoformat(),
        "lifecycle": "active",
        "max_tokens": card["limits"]["max_tokens"],
    }


def limit(given: str | None) -> int:
    """How many are asked for.

    Raises:
        BadRequestError: that is no number, or no number one may ask for.
    """
    if given is None:
        return USUAL
    if _NUMBER.fullmatch(given) and 1 <= int(given) <= MOST:
        return int(given)
    raise BadRequestError(f"'limit' is not a whole number from 1 to {MOST}.", param="limit")


def page(cards: Sequence[Json], *, limit: int, after: str | None, before: str | None) -> Json:
    """A page of the list: so many after one of them, or before it.

    Raises:
        BadRequestError: nobody is called so.
    """
    found = [model(card) for card in cards]
    if after is not None:
        found = found[_place(found, after, "after_id") + 1 :]
    if before is not None:
        found = found[: _place(found, before, "before_id")]
    shown = found[-limit:] if before is not None else found[:limit]
    return {
        "data": shown,
        "has_more": len(shown) < len(found),
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _place(found: Sequence[Json], name: str, param: str) -> int:
    for place, one in enumerate(found):
        if one["id"] == name:
            return place
    raise BadRequestError(f"'{param}' names no model: '{name}'.", param=param)
