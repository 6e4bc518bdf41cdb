"""What a tab kept of its conversations over a reload, read as the visitor's input that it is.

`keep.js` writes it; whoever sits at the browser can write anything in its place. So every part is
checked for itself, and one that is not as the page would have written it is passed over. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from serve.ui import view
from serve.ui.conversation import MOST_CHARACTERS, Chat, answered, stopped

MOST_KEPT = 600_000
"""More characters than `keep.js` ever keeps: what is longer was not written by it."""

Words = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Part = TypeVar("Part", bound="Read")
Picked = Annotated[dict[Name, Annotated[str, Field(max_length=200)]], Field(max_length=50)]


class Read(BaseModel):
    """A part of it, exactly as described."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Turn(Read):
    role: Literal["user", "assistant"]
    text: Annotated[str, Field(max_length=200_000)]
    growing: bool = False
    """Whether more of it was still to come."""


Turns = Annotated[list[Turn], Field(max_length=2_000)]


class Settings(Read):
    """What the drawer showed."""

    temperature: Annotated[float, Field(ge=0, le=2)]
    top_p: Annotated[float, Field(ge=0.05, le=1)]
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)]
    system: Annotated[str, Field(max_length=8_000)]

    @property
    def values(self) -> dict[str, Any]:
        """In the drawer's words."""
        return {
            "sliders": (self.temperature, self.top_p, self.max_tokens),
            "system": self.system,
        }


def _if_right(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


class Conversation(Read):
    """One with one assistant; a slider out of its range is no reason to lose what was said."""

    name: Name
    chat: Turns
    message: Words
    settings: Annotated[Settings | None, WrapValidator(_if_right)]
    picked: Annotated[Picked | None, WrapValidator(_if_right)]


class Pair(Read):
    """The one side by side."""

    pair: Annotated[list[Name], Field(min_length=2, max_length=2)]
    chats: Annotated[list[Turns], Field(min_length=2, max_length=2)]
    message: Words


class Told(BaseModel):
    """The whole, before its parts are looked at."""

    model_config = ConfigDict(strict=True)

    user: str
    fresh: bool
    kept: Annotated[list[Any], Field(max_length=500)]


@dataclass(frozen=True, slots=True)
class Tab:
    """What there is to be found again."""

    conversations: Mapping[str, Conversation] = field(default_factory=dict)
    pair: Pair | None = None
    fresh: bool = True
    """Whether somebody came here by an address, and not by loading the page again."""

    @classmethod
    def read(cls, text: str | None, user: str) -> Self:
        """What a browser told, if it was kept for the same user."""
        if not text or len(text) > MOST_KEPT:
            return cls()
        try:
            told = Told.model_validate_json(text.encode("utf-8", "replace"))
        except ValidationError:
            return cls()
        if told.user != user:
            return cls(fresh=told.fresh)
        conversations = {one.name: one for one in _of(Conversation, told.kept) if _whole(one.chat)}
        pairs = [one for one in _of(Pair, told.kept) if all(map(_whole, one.chats))]
        return cls(conversations, next(iter(pairs), None), told.fresh)

    @property
    def picked(self) -> dict[str, dict[str, str]]:
        """What was picked in the controls: assistant → control → value."""
        return {name: one.picked for name, one in self.conversations.items() if one.picked}


def shown_again(turns: list[Turn], notice: str) -> Chat:
    """A kept conversation as the page shows it; an answer that was growing was stopped."""
    chat = [piece for turn in turns for piece in _piece(turn)]
    return stopped(chat, notice) if turns and turns[-1].growing else chat


def _of(kind: type[Part], parts: Iterable[Any]) -> Iterable[Part]:
    for part in parts:
        try:
            yield kind.model_validate(part)
        except ValidationError:
            continue


def _whole(turns: list[Turn]) -> bool:
    """Whether it can be a conversation: somebody asked first."""
    return not turns or turns[0].role == "user"


def _piece(turn: Turn) -> Chat:
    if turn.role == "user":
        return [{"role": "user", "content": turn.text}]
    if turn.text.startswith(view.NOTICE):
        return answered("", *view.noticed(turn.text))
    return answered(turn.text, "")
