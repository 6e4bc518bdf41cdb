"""Folds the events of a stream into one whole answer.

An engine's work on a whole answer could not be ended at a stop string, only thrown away; and some
engines notice only while they stream that nobody waits any more.
"""

from __future__ import annotations

from typing import Any

from serve.gateway.answers.event import DONE, data_of, object_of
from serve.gateway.answers.fixes import Json

OBJECTS = {"chat.completion.chunk": "chat.completion"}


def fold(events: bytes) -> Json:
    """The answer that these events, in shape, say piece by piece."""
    answer: Json = {}
    choices: dict[int, Json] = {}
    for event in events.removesuffix(DONE).split(b"\n\n"):
        found = object_of(data_of(event))
        if found is None:
            continue
        pieces = found.pop("choices")
        told = {name: value for name, value in found.items() if value is not None}
        answer.update(told)
        for piece in pieces:
            _add(choices.setdefault(piece["index"], {}), piece)
    answer["object"] = OBJECTS.get(answer.get("object", ""), answer.get("object"))
    answer["choices"] = [_whole(choices[index]) for index in sorted(choices)]
    return answer


def _whole(choice: Json) -> Json:
    if "delta" in choice:
        message = choice["message"] = choice.pop("delta")
        calls = message.get("tool_calls") or ()
        for call in calls:
            call.pop("index", None)
        if message.get("content") is None and not calls:
            message["content"] = ""  # what is empty no event tells
    return choice


def _add(whole: Json, piece: Json) -> None:
    """Add a piece of an object to what there is of it."""
    for name, value in piece.items():
        before = whole.get(name)
        if before is None or name in ("index", "role", "id", "type"):
            whole[name] = [*value] if isinstance(value, list) else value
        elif value is None:
            continue
        elif isinstance(before, dict) and isinstance(value, dict):
            _add(before, value)
        elif name == "tool_calls":
            _add_calls(before, value)
        else:
            whole[name] = _joined(before, value)


def _add_calls(whole: list[Json], pieces: list[Json]) -> None:
    for piece in pieces:
        known = next((call for call in whole if call.get("index") == piece.get("index")), None)
        if known is None:
            whole.append(piece)
        else:
            _add(known, piece)


def _joined(before: Any, value: Any) -> Any:
    if isinstance(before, str) and isinstance(value, str):
        return before + value
    if isinstance(before, list) and isinstance(value, list):
        return [*before, *value]
    return value
