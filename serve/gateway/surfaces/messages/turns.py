"""Translates the turns of a Messages conversation into chat messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from serve.gateway.answers.fixes import Json
from serve.gateway.surfaces.messages.requests import ContentBlock, Message
from serve.gateway.surfaces.translation import refused

UNREADABLE = frozenset(("redacted_thinking",))
"""Meant for Anthropic's own models; nobody else can read it."""


def system_text(system: str | list[ContentBlock] | None, place: str = "system") -> str | None:
    """A system prompt, which may come in pieces."""
    if system is None or isinstance(system, str):
        return system or None
    return "\n\n".join(_text(block, f"{place}[{i}]") for i, block in enumerate(system)) or None


def of(messages: Sequence[Message]) -> Iterator[Json]:
    """The messages of a chat that say the same.

    Raises:
        BadRequestError: one holds what a chat cannot.
    """
    for i, message in enumerate(messages):
        place = f"messages[{i}].content"
        if message.role == "system":
            yield {"role": "system", "content": system_text(message.content, place) or ""}
        elif isinstance(message.content, str):
            yield {"role": message.role, "content": message.content}
        elif message.role == "assistant":
            yield _assistant(message.content, place)
        else:
            yield from _user(message.content, place)


def answers_only(message: Message) -> bool:
    """Whether it says nothing but what tools have answered."""
    content = message.content
    return isinstance(content, list) and all(block.type == "tool_result" for block in content)


def _user(content: list[ContentBlock], place: str) -> Iterator[Json]:
    """What tools have answered comes first: a chat has messages of their own for that."""
    parts: list[Json] = []
    answers = False
    for i, block in enumerate(content):
        if block.type == "tool_result":
            answers = True
            text, images = _result(block, f"{place}[{i}].content")
            yield {"role": "tool", "tool_call_id": block.tool_use_id or "", "content": text}
            parts += images
        else:
            parts.append(_part(block, f"{place}[{i}]"))
    if parts or not answers:
        yield {"role": "user", "content": _plain(parts)}


def _assistant(content: list[ContentBlock], place: str) -> Json:
    parts: list[Json] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    for i, block in enumerate(content):
        if block.type == "thinking":
            thoughts.append(block.thinking or "")
        elif block.type == "tool_use":
            calls.append(_call(block))
        elif block.type not in UNREADABLE:
            parts.append(_part(block, f"{place}[{i}]"))
    said: Json = {"role": "assistant", "content": _plain(parts) if parts or not calls else None}
    if thoughts:
        said["reasoning_content"] = "".join(thoughts)
    if calls:
        said["tool_calls"] = calls
    return said


def _call(block: ContentBlock) -> Json:
    arguments = msgspec.json.encode(block.input or {}).decode()
    function = {"name": block.name or "", "arguments": arguments}
    return {"id": block.id or "", "type": "function", "function": function}


def _result(block: ContentBlock, place: str) -> tuple[str, list[Json]]:
    """A tool's answer: its text, and its images, which only a message of the user's can hold."""
    if not isinstance(block.content, list):
        return block.content or "", []
    parts = [_part(inner, f"{place}[{i}]") for i, inner in enumerate(block.content)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), [part for part in parts if part["type"] != "text"]


def _part(block: ContentBlock, place: str) -> Json:
    if block.type == "text":
        return {"type": "text", "text": _text(block, place)}
    if block.type == "image":
        return {"type": "image_url", "image_url": {"url": _url(block, place)}}
    if block.type == "document" and block.source is not None and block.source.type == "text":
        return {"type": "text", "text": block.source.data or ""}
    raise refused(place, f"is of the type '{block.type}', which a chat cannot hold")


def _text(block: ContentBlock, place: str) -> str:
    if block.type != "text" or block.text is None:
        raise refused(place, f"is of the type '{block.type}' and has no text")
    return block.text


def _url(block: ContentBlock, place: str) -> str:
    source = block.source
    if source is not None and source.type == "url" and source.url:
        return source.url
    if source is not None and source.type == "base64" and source.data:
        return f"data:{source.media_type or 'image/jpeg'};base64,{source.data}"
    kind = "nothing" if source is None else f"'{source.type}'"
    raise refused(f"{place}.source", f"is {kind}; give a 'url' or 'base64' data")


def _plain(parts: list[Json]) -> str | list[Json]:
    """A single text as text, which every chat template can read."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts
