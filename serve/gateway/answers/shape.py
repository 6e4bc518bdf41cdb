"""OpenAI's published schema of answers, and the fields in which an engine's answer differs.

Each function names, one by one, the fields of an object that are not as they should be; an object
for which it names none goes to the client byte for byte. What an engine sends beyond the published
schema is nobody's business here and stays.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from serve.gateway.answers import logprobs
from serve.gateway.answers.fixes import GONE, Fix, Json, is_index

CHAT_ENDS = frozenset(("stop", "length", "tool_calls", "content_filter", "function_call"))
TEXT_ENDS = frozenset(("stop", "length", "content_filter"))
FAILED_ENDS = frozenset(("error", "abort", "parse_error"))
"""LMDeploy's words for an answer that is none, though it comes under 200."""
OTHER_WORDS = {"max_tokens": "length", "limit": "length"}
"""How engines that are neither of ours say it; whatever else they say is taken for "stop"."""

ROLES = ("developer", "system", "user", "assistant", "tool")


class Face:
    """What all events of one stream, or one whole answer, must say of themselves."""

    __slots__ = ("chat", "head", "usage")

    def __init__(self, found: Json, *, model: str, chat: bool, stream: bool, usage: bool) -> None:
        given, made = found.get("id"), found.get("created")
        self.chat = chat
        self.usage = usage
        kind = "text_completion"
        if chat:
            kind = "chat.completion.chunk" if stream else "chat.completion"
        self.head: Json = {
            "id": given if _is_id(given) else _new_id(chat),
            "object": kind,
            "created": int(made) if isinstance(made, (int, float)) else int(time.time()),
            "model": model,
        }


def chunk(found: Json, face: Face, opened: Mapping[int, int]) -> Iterator[Fix]:
    """What one event of a stream lacks; `opened` are the choices that have had one before, each
    with the length of the text whose log probabilities were told."""
    yield from _head(found, face)
    if face.usage and face.chat:
        if "usage" not in found or found["usage"] is not None:
            yield found, "usage", None
    elif "usage" in found:
        yield found, "usage", GONE
    for place, choice in enumerate(found["choices"]):
        if not is_index(choice.get("index")):
            yield choice, "index", place
        if face.chat:
            yield from _delta(choice, first=choice["index"] not in opened)
        elif not isinstance(choice.get("text"), str):
            yield choice, "text", ""
        yield from _end(choice, face, still_open=None)
        told = opened.get(choice["index"], 0)
        yield from logprobs.of_choice(choice, chat=face.chat, begins=told)


def answer(found: Json, face: Face) -> Iterator[Fix]:
    """What a whole answer lacks."""
    yield from _head(found, face)
    if "usage" in found:
        if isinstance(found["usage"], dict):
            yield from usage(found["usage"])
        else:
            yield found, "usage", GONE
    for place, choice in enumerate(found["choices"]):
        if not is_index(choice.get("index")):
            yield choice, "index", place
        if face.chat:
            yield from _message(choice)
        elif not isinstance(choice.get("text"), str):
            yield choice, "text", ""
        yield from _end(choice, face, still_open="stop")
        yield from logprobs.of_choice(choice, chat=face.chat)


def usage(found: Json) -> Iterator[Fix]:
    """What a count of tokens lacks."""
    for name in ("prompt_tokens", "completion_tokens"):
        if not is_index(found.get(name)):
            yield found, name, 0
    if not is_index(found.get("total_tokens")):
        yield found, "total_tokens", found["prompt_tokens"] + found["completion_tokens"]
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        details = found.get(name)
        if name in found and not isinstance(details, dict):
            yield found, name, GONE
        elif details:
            yield from [(details, part, GONE) for part, count in details.items() if count is None]


def failed(found: Json) -> str | None:
    """The word by which an engine says that an answer of its own is none."""
    for choice in found["choices"]:
        end = choice.get("finish_reason")
        if isinstance(end, str) and end in FAILED_ENDS:
            return end
    return None


def is_whole(found: Any) -> bool:
    """Whether this is an answer, or an event of one, at all."""
    choices = found.get("choices") if isinstance(found, dict) else None
    return isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)


def _head(found: Json, face: Face) -> Iterator[Fix]:
    for name, value in face.head.items():
        given = found.get(name)
        if given != value or type(given) is not type(value):  # True is 1, and 1.0 is
            yield found, name, value
    for name in ("system_fingerprint", "obfuscation"):
        if name in found and not isinstance(found[name], str):
            yield found, name, GONE


def _delta(choice: Json, *, first: bool) -> Iterator[Fix]:
    if not isinstance(choice.get("delta"), dict):
        yield choice, "delta", {}
    delta = choice["delta"]
    if first:
        if delta.get("role") not in ROLES:
            yield delta, "role", "assistant"
    elif "role" in delta:  # clients that join what deltas say would read "assistantassistant"
        yield delta, "role", GONE
    yield from _said(delta)
    if "tool_calls" in delta:
        yield from _tool_calls(delta, whole=False)


def _message(choice: Json) -> Iterator[Fix]:
    if not isinstance(choice.get("message"), dict):
        yield choice, "message", {}
    message = choice["message"]
    if message.get("role") != "assistant":
        yield message, "role", "assistant"
    for name in ("content", "refusal"):
        if name not in message:
            yield message, name, None
    yield from _said(message)
    if "annotations" in message and message["annotations"] is None:
        yield message, "annotations", GONE
    if "tool_calls" in message:
        yield from _tool_calls(message, whole=True)


def _said(spoken: Json) -> Iterator[Fix]:
    for name in ("content", "refusal"):
        said = spoken.get(name)
        if said is not None and not isinstance(said, str):
            yield spoken, name, _text(said)
    if "function_call" in spoken and not isinstance(spoken["function_call"], dict):
        yield spoken, "function_call", GONE


def _text(content: Any) -> str:
    """Text that came as a list of parts, as in a request, or as something else again."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content)


def _tool_calls(spoken: Json, *, whole: bool) -> Iterator[Fix]:
    calls = spoken["tool_calls"]
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        yield spoken, "tool_calls", GONE
        return
    for place, call in enumerate(calls):
        if whole:
            if not isinstance(call.get("id"), str):
                yield call, "id", f"call_{uuid.uuid4().hex}"
        elif not is_index(call.get("index")):
            yield call, "index", place
        if call.get("type") not in (("function", "custom") if whole else ("function",)) and (
            whole or "type" in call
        ):
            yield call, "type", "function"
        if not whole and "id" in call and not isinstance(call["id"], str):
            yield call, "id", GONE
        yield from _function(call, whole=whole)


def _function(call: Json, *, whole: bool) -> Iterator[Fix]:
    if call.get("type") == "custom":
        return
    if not isinstance(call.get("function"), dict):
        if not whole and "function" not in call:
            return
        yield call, "function", {}
    function = call["function"]
    for name in ("name", "arguments"):
        value = function.get(name)
        if value is None and (whole or name in function):
            yield function, name, "" if whole else GONE
        elif value is not None and not isinstance(value, str):
            yield function, name, msgspec.json.encode(value).decode()


def _end(choice: Json, face: Face, *, still_open: str | None) -> Iterator[Fix]:
    end = choice.get("finish_reason")
    if isinstance(end, str):
        if end not in (CHAT_ENDS if face.chat else TEXT_ENDS):
            yield choice, "finish_reason", OTHER_WORDS.get(end, "stop")
    elif "finish_reason" not in choice or end != still_open:
        yield choice, "finish_reason", still_open


def _new_id(chat: bool) -> str:
    return f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"


def _is_id(value: Any) -> bool:
    """A name of its own; LMDeploy numbers answers, and gives "-1" to every text completion."""
    return isinstance(value, str) and bool(value) and not value.lstrip("-").isdigit()
