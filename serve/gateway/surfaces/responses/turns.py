"""Translates the input items of a Responses request into chat messages."""

from __future__ import annotations

from collections.abc import Sequence

from serve.gateway.answers.fixes import Json
from serve.gateway.surfaces.responses.requests import Item, Part
from serve.gateway.surfaces.translation import UntranslatableError, refused

TEXTS = frozenset(("input_text", "output_text", "text", "reasoning_text"))


def of(items: Sequence[Item]) -> list[Json]:
    """The messages of a chat that say the same. What one turn of the assistant's did, thinking,
    speaking, calling tools, is one message there and several items here.

    Raises:
        BadRequestError: one of them is nothing that a chat can hold.
    """
    turns: list[Json] = []
    thought = ""
    for i, item in enumerate(items):
        place = f"input[{i}]"
        if item.type == "reasoning":
            thought += _text(item.content, f"{place}.content")
        elif item.type == "message":
            turns.append(_message(item, place))
        elif item.type == "function_call":
            _call(turns, item, place, thought)
        elif item.type == "function_call_output":
            turns.append(_output(item, place))
        else:
            raise refused(place, f"is a '{item.type}', which a chat cannot hold")
        if thought and turns and turns[-1]["role"] == "assistant" and item.type != "reasoning":
            turns[-1].setdefault("reasoning_content", thought)
            thought = ""
    return turns


def _message(item: Item, place: str) -> Json:
    if item.role is None:
        raise UntranslatableError(f"'{place}' has no 'role'.", param=f"{place}.role")
    return {"role": item.role, "content": _content(item.content, f"{place}.content")}


def _call(turns: list[Json], item: Item, place: str, thought: str) -> None:
    """Add a call to the turn it belongs to; a new thought begins another turn."""
    for name in ("call_id", "name"):
        if not getattr(item, name):
            raise UntranslatableError(f"'{place}' has no '{name}'.", param=f"{place}.{name}")
    if thought or not turns or turns[-1]["role"] != "assistant":
        turns.append({"role": "assistant", "content": None})
    function = {"name": item.name, "arguments": item.arguments or "{}"}
    call = {"id": item.call_id, "type": "function", "function": function}
    turns[-1].setdefault("tool_calls", []).append(call)


def _output(item: Item, place: str) -> Json:
    if not item.call_id:
        raise UntranslatableError(f"'{place}' has no 'call_id'.", param=f"{place}.call_id")
    content = _text(item.output, f"{place}.output")
    return {"role": "tool", "tool_call_id": item.call_id, "content": content}


def _content(content: str | list[Part] | None, place: str) -> str | list[Json]:
    """A single text as text, which every chat template can read."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = [_part(part, f"{place}[{i}]") for i, part in enumerate(content)]
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _text(content: str | list[Part] | None, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = [_part(part, f"{place}[{i}]") for i, part in enumerate(content)]
    for i, part in enumerate(parts):
        if part["type"] != "text":
            raise refused(f"{place}[{i}]", f"is a '{content[i].type}'; only text can be here")
    return "\n".join(part["text"] for part in parts)


def _part(part: Part, place: str) -> Json:
    if part.type in TEXTS:
        return {"type": "text", "text": part.text or ""}
    if part.type == "refusal":
        return {"type": "text", "text": part.refusal or ""}
    if part.type == "input_image" and part.image_url:
        image = {"url": part.image_url}
        return {"type": "image_url", "image_url": {**image, **_detail(part)}}
    if part.type == "input_audio" and part.input_audio:
        return {"type": "input_audio", "input_audio": part.input_audio}
    if part.file_id:
        raise refused(f"{place}.file_id", "names a file, and none are kept here; send it itself")
    raise refused(place, f"is a '{part.type}', which a chat cannot hold")


def _detail(part: Part) -> Json:
    return {} if part.detail is None else {"detail": part.detail}
