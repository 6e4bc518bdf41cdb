"""Translates a request of another surface into a chat completion; `order` takes it from there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from serve.gateway.errors import BadRequestError
from serve.gateway.fields import Fields, absent
from serve.gateway.surfaces.retelling import Retelling

T = TypeVar("T")

_PLACE = re.compile(r"(?P<what>.*) - at `\$\.?(?P<place>.*)`")
_MISSING = re.compile(r"Object missing required field `(\w+)`")

COUNTED = {"include_usage": True}
"""Both surfaces tell the tokens of a stream, unasked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A request in the words of a chat completion, and how its answer will be told."""

    fields: Fields
    retell: Callable[[Fields], Retelling]
    """Given the fields as they went to the engine."""
    ignored: tuple[str, ...] = ()
    """What it asks for that nobody here does: refused, unless the assistant drops such things."""
    names_stop: bool = False
    """The client wants to know which of its stop strings ended the answer."""


class UntranslatableError(BadRequestError):
    """What cannot be asked in a chat; its `param` is the client's own name for it already."""


Translate = Callable[[bytes, Fields], Translation]


def reads(kind: type[T]) -> Callable[[bytes], T]:
    """What reads a body as such a request, and says in one sentence what is wrong with it."""
    decoder = msgspec.json.Decoder(kind)

    def read(body: bytes) -> T:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _wrong(str(error)) from None
        except RecursionError:
            raise UntranslatableError("The body is nested too deeply.") from None

    return read


def _wrong(told: str) -> UntranslatableError:
    placed = _PLACE.fullmatch(told)
    what, place = (placed["what"], placed["place"]) if placed else (told, "")
    if missing := _MISSING.fullmatch(what):
        param = f"{place}.{missing[1]}" if place else missing[1]
        return UntranslatableError(f"{place or 'The request'} has no '{missing[1]}'.", param=param)
    what = what[:1].lower() + what[1:]
    return UntranslatableError(f"'{place}' is not right: {what}.", param=place or None)


def refused(name: str, why: str) -> UntranslatableError:
    """The error for something that could only be answered falsely."""
    return UntranslatableError(f"'{name}' {why}.", param=name, code="unsupported_parameter")


def others(
    fields: Fields,
    *,
    known: Iterable[str],
    elsewhere: Mapping[str, str],
    refusals: Mapping[str, str],
) -> Fields:
    """The fields that neither surface has, which go on to the engine as they are.

    Raises:
        BadRequestError: one that is called otherwise here, or that nobody here can do.
    """
    for name in fields:
        if absent(fields, name) or bytes(fields[name]) in (b"false", b"[]", b"{}"):
            continue
        if name in refusals:
            raise refused(name, refusals[name])
        if name in elsewhere:
            raise refused(name, f"is not of this surface; {elsewhere[name]}")
    left_out = {*known, *elsewhere, *refusals}
    return {name: value for name, value in fields.items() if name not in left_out}


def encode(found: Mapping[str, Any]) -> Fields:
    """Each field as JSON; those that are None are left out."""
    return {name: Raw(msgspec.json.encode(v)) for name, v in found.items() if v is not None}
