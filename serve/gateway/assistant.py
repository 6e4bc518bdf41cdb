"""An assistant applied to a request: its prompt, history rule, defaults and limits. All pure.

A body is cut into its top-level fields and no further; what nobody here needs to understand goes
on to the engine bit for bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec import Raw

from assistants import Assistant, House, UnknownAssistantError
from assistants.prompt import Selection, SystemRefusedError, select
from serve.gateway.errors import BadRequestError, UnknownModelError

Fields = dict[str, Raw]

NULL: Final = b"null"

TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")
"""Every name under which an engine takes the length of an answer; the last is llama.cpp's own."""

OTHER_NAMES = {"repetition_penalty": "repeat_penalty"}
"""LMDeploy's name → llama.cpp's: an engine ignores the other's in silence, so both are sent."""


class Surface(Enum):
    """The two ways to ask, by the path that engines have for them too."""

    chat = "/v1/chat/completions"
    completion = "/v1/completions"


@dataclass(frozen=True, slots=True)
class Order:
    """A request as an engine is to see it."""

    assistant: Assistant
    path: str
    body: bytes
    stream: bool


class _Message(msgspec.Struct):
    role: str
    content: Raw = Raw(NULL)


_fields = msgspec.json.Decoder(Fields)
_string = msgspec.json.Decoder(str)
_flag = msgspec.json.Decoder(bool | None)
_count = msgspec.json.Decoder(int)
_list = msgspec.json.Decoder(list[Raw])
_message = msgspec.json.Decoder(_Message)
_content = msgspec.json.Decoder(str | list[dict[str, Any]] | None)
_encoder = msgspec.json.Encoder()


class Rules:
    """One assistant's declaration, encoded once so that applying it is only splicing."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant
        self.name = Raw(_encoder.encode(assistant.name))
        self.most_tokens = assistant.limits.max_tokens
        sampling = assistant.sampling.model_dump(exclude_none=True)
        if not sampling["stop"]:
            del sampling["stop"]
        self.default_tokens = sampling.pop("max_tokens", self.most_tokens)
        self.defaults = {name: Raw(_encoder.encode(value)) for name, value in sampling.items()}
        self.system = _system_message(assistant.system) if assistant.system else None


class Desk:
    """Takes requests in for a whole house."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._rules: dict[str, Rules] = {}
        for assistant in house:
            rules = Rules(assistant)
            self._rules.update({name: rules for name in (assistant.name, *assistant.aliases)})

    def order(self, surface: Surface, body: bytes) -> Order:
        """Make an order of a request's body.

        Raises:
            BadRequestError: it cannot be read, or asks what cannot be.
            UnknownModelError: nobody is called what it names.
        """
        fields = read(body)
        name = _model(fields)
        rules = self._rules.get(name)
        if rules is None:
            raise self._unknown(name)
        if name != rules.assistant.name:
            fields["model"] = rules.name
        if surface is Surface.chat:
            _apply_prompt(rules, fields)
        elif _absent(fields, "prompt"):
            raise BadRequestError("The request has no 'prompt'.", param="prompt")
        _apply_defaults(rules, fields)
        _apply_limits(rules, fields)
        return Order(rules.assistant, surface.value, _encoder.encode(fields), _streams(fields))

    def _unknown(self, name: str) -> UnknownModelError:
        try:
            self._house.get(name)
        except UnknownAssistantError as error:
            return UnknownModelError(str(error), param="model")
        raise AssertionError(f"'{name}' is in the house but not at the desk")


def read(body: bytes) -> Fields:
    """The top-level fields of a JSON object.

    Raises:
        BadRequestError: the body is not one, or not UTF-8.
    """
    try:
        body.decode()
        return _fields.decode(body)
    except UnicodeDecodeError as error:
        raise BadRequestError(f"The body is not UTF-8 (byte {error.start}).") from None
    except msgspec.ValidationError:
        raise BadRequestError("The body is JSON, but not an object.") from None
    except msgspec.DecodeError as error:
        raise BadRequestError(f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise BadRequestError("The body is nested too deeply.") from None


def _absent(fields: Mapping[str, Raw], name: str) -> bool:
    """Left out, or given as null, which is how many clients leave out."""
    return (value := fields.get(name)) is None or bytes(value) == NULL


def _model(fields: Fields) -> str:
    if _absent(fields, "model"):
        raise BadRequestError("The request has no 'model'; name an assistant.", param="model")
    try:
        return _string.decode(fields["model"])
    except msgspec.ValidationError:
        raise BadRequestError("'model' is not a string.", param="model") from None


def _streams(fields: Fields) -> bool:
    if "stream" not in fields:
        return False
    try:
        return bool(_flag.decode(fields["stream"]))
    except msgspec.ValidationError:
        raise BadRequestError("'stream' is neither true nor false.", param="stream") from None


def _apply_defaults(rules: Rules, fields: Fields) -> None:
    for name, value in rules.defaults.items():
        if _absent(fields, name) and _absent(fields, OTHER_NAMES.get(name, name)):
            fields[name] = value
    for name, other in OTHER_NAMES.items():
        if not _absent(fields, name) and _absent(fields, other):
            fields[other] = fields[name]


def _apply_limits(rules: Rules, fields: Fields) -> None:
    """Put in the default length where none is asked for, and cut what is longer than allowed."""
    asked = [name for name in TOKEN_LIMITS if not _absent(fields, name)]
    for name in asked:
        count = _tokens(fields, name)
        if rules.most_tokens is not None and count > rules.most_tokens:
            fields[name] = Raw(b"%d" % rules.most_tokens)
    if not asked and rules.default_tokens is not None:
        most = rules.most_tokens or rules.default_tokens
        fields["max_tokens"] = Raw(b"%d" % min(rules.default_tokens, most))


def _tokens(fields: Fields, name: str) -> int:
    with contextlib.suppress(msgspec.ValidationError):
        if (count := _count.decode(fields[name])) >= 1:
            return count
    raise BadRequestError(f"'{name}' is not a positive whole number.", param=name)


def _apply_prompt(rules: Rules, fields: Fields) -> None:
    """Replace the conversation by what the assistant's rules make of it."""
    conversation = _conversation(fields)
    turns = [_turn(raw, i) for i, raw in enumerate(conversation)]
    try:
        choice = select(rules.assistant, [turn.role for turn in turns])
    except SystemRefusedError as error:
        raise BadRequestError(str(error), param="messages", code="system_message_refused") from None
    kept = [conversation[i] for i in choice.kept]
    if choice.own_system is not None and rules.system is not None:
        kept.insert(0, _joined(choice, turns) if choice.joins else rules.system)
    elif len(kept) == len(conversation):
        return
    fields["messages"] = Raw(_encoder.encode(kept))


def _conversation(fields: Fields) -> list[Raw]:
    if _absent(fields, "messages"):
        raise BadRequestError("The request has no 'messages'.", param="messages")
    try:
        conversation = _list.decode(fields["messages"])
    except msgspec.ValidationError:
        raise BadRequestError("'messages' is not a list.", param="messages") from None
    if not conversation:
        raise BadRequestError("'messages' is empty; say something.", param="messages")
    return conversation


def _turn(raw: Raw, place: int) -> _Message:
    try:
        return _message.decode(raw)
    except msgspec.ValidationError:
        raise BadRequestError(
            f"'messages[{place}]' is not an object with a 'role'.", param=f"messages[{place}]"
        ) from None


def _joined(choice: Selection, turns: list[_Message]) -> Raw:
    texts = [_text(turns[i], i) for i in choice.joins]
    return _system_message("\n\n".join([choice.own_system or "", *filter(None, texts)]))


def _text(turn: _Message, place: int) -> str:
    """A message's text, which OpenAI's clients may also send as a list of parts."""
    try:
        content = _content.decode(turn.content)
    except msgspec.ValidationError:
        raise BadRequestError(
            f"'messages[{place}].content' is not text.", param=f"messages[{place}].content"
        ) from None
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return content or ""


def _system_message(text: str) -> Raw:
    return Raw(_encoder.encode({"role": "system", "content": text}))
