"""Applies an assistant to a request: prompt, history, defaults, limits. Pure functions.

Only the body's own fields are looked at (`fields`); what of them the answer depends on is for
`settling`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from assistants import Assistant, House, UnknownAssistantError
from assistants.prompt import Selection, SystemRefusedError, select
from serve.gateway.answers import answer
from serve.gateway.answers.asked import Asked
from serve.gateway.answers.usage import Usage
from serve.gateway.errors import BadRequestError, UnknownModelError
from serve.gateway.fields import NULL, Fields, absent, read
from serve.gateway.order.kind import UNKNOWN, Kind
from serve.gateway.order.settling import Own, settle
from serve.gateway.surfaces.messages import count
from serve.gateway.surfaces.retelling import Retelling
from serve.gateway.surfaces.surface import Surface
from serve.gateway.surfaces.translation import Translate

TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")
"""Every name under which an engine takes the length of an answer; the last is llama.cpp's own."""

LONGEST_NAME = 200
"""What is longer is no slip in the name of an assistant."""

OTHER_NAMES = {"repetition_penalty": "repeat_penalty"}
"""LMDeploy's name → llama.cpp's: an engine ignores the other's in silence, so both are sent."""


@dataclass(frozen=True, slots=True)
class Order:
    """A request as an engine is to see it."""

    assistant: Assistant
    path: str
    body: bytes
    stream: bool
    asked: Asked
    read: Callable[[bytes, Asked], tuple[bytes, Usage | None]] = answer.whole
    """What a client is sent of an engine's whole answer, and what that cost."""
    retelling: Retelling | None = None
    """How a chat completion is told to a client that asked for something else."""


class _Message(msgspec.Struct):
    role: str
    content: Raw = Raw(NULL)


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
        del sampling["stop"]
        self.own = Own(assistant)
        self.default_tokens = sampling.pop("max_tokens", self.most_tokens)
        self.defaults = {name: Raw(_encoder.encode(value)) for name, value in sampling.items()}
        self.system = _system_message(assistant.system) if assistant.system else None


class Rewriter:
    """Rewrites the requests for all assistants, each by its declaration."""

    def __init__(self, house: House, *, kind_of: Callable[[str], Kind] = lambda _: UNKNOWN) -> None:
        """`kind_of` tells which kind of engine an assistant has."""
        self._kind_of = kind_of
        self.reload(house)

    def reload(self, house: House) -> None:
        """Apply the declarations of another house from now on."""
        rules = {assistant.name: Rules(assistant) for assistant in house}
        names = {a.name: (a.name, *a.aliases) for a in house}
        self._rules = {name: rules[own] for own, called in names.items() for name in called}
        self._house = house

    def order(
        self,
        surface: Surface,
        body: bytes,
        *,
        sees: Callable[[str], bool] = lambda _: True,
        translate: Translate | None = None,
    ) -> Order:
        """Make an order of a request's body; whoever may not see an assistant is not told of it.
        With `translate` the body asks in other words for a chat completion.

        Raises:
            BadRequestError: it cannot be read, or asks what cannot be.
            UnknownModelError: nobody is called what it names.
        """
        fields = read(body)
        name = _model(fields)
        rules = self._rules.get(name)
        if rules is None:
            raise self._unknown(name, sees)
        if surface is Surface.count:
            return _count_order(rules, body)
        said = None if translate is None else translate(body, fields)
        if said is not None:
            fields = said.fields
            _refuse(rules, said.ignored)
        if name != rules.assistant.name:
            fields["model"] = rules.name
        chat = surface is not Surface.completion
        if chat:
            _apply_prompt(rules, fields)
        elif absent(fields, "prompt"):
            raise BadRequestError("The request has no 'prompt'.", param="prompt")
        stream = _streams(fields)
        kind = self._kind_of(rules.assistant.name)
        names_stop = said is not None and said.names_stop
        asked = settle(
            rules.own, fields, chat=chat, stream=stream, kind=kind, names_stop=names_stop
        )
        _apply_defaults(rules, fields)
        _apply_limits(rules, fields)
        body = _encoder.encode(fields)
        if said is None:
            return Order(rules.assistant, surface.value, body, stream, asked)
        retelling = said.retell(fields)
        path = Surface.chat.value
        return Order(rules.assistant, path, body, stream, asked, retelling=retelling)

    def _unknown(self, name: str, sees: Callable[[str], bool]) -> UnknownModelError:
        known = [known for known in self._house.names if sees(known)]
        if len(name) > LONGEST_NAME:  # to look for the nearest would take seconds
            return UnknownModelError("There is no assistant with so long a name.", param="model")
        return UnknownModelError(str(UnknownAssistantError(name, known)), param="model")


def _model(fields: Fields) -> str:
    if absent(fields, "model"):
        raise BadRequestError("The request has no 'model'; name an assistant.", param="model")
    try:
        return _string.decode(fields["model"])
    except msgspec.ValidationError:
        raise BadRequestError("'model' is not a string.", param="model") from None


def _refuse(rules: Rules, ignored: Sequence[str]) -> None:
    if ignored and not rules.own.drops:
        raise BadRequestError(
            f"'{ignored[0]}' would be ignored here; leave it out.",
            param=ignored[0],
            code="unsupported_parameter",
        )


def _count_order(rules: Rules, body: bytes) -> Order:
    try:
        question = count.question(rules.assistant, count.read(body))
    except SystemRefusedError as error:
        raise _system_refused(error) from None
    asked = Asked(rules.assistant.name)
    return Order(
        rules.assistant, Surface.count.value, question, stream=False, asked=asked, read=count.answer
    )


def _system_refused(error: SystemRefusedError) -> BadRequestError:
    return BadRequestError(str(error), param="messages", code="system_message_refused")


def _streams(fields: Fields) -> bool:
    if "stream" not in fields:
        return False
    try:
        return bool(_flag.decode(fields["stream"]))
    except msgspec.ValidationError:
        raise BadRequestError("'stream' is neither true nor false.", param="stream") from None


def _apply_defaults(rules: Rules, fields: Fields) -> None:
    for name, value in rules.defaults.items():
        if absent(fields, name) and absent(fields, OTHER_NAMES.get(name, name)):
            fields[name] = value
    for name, other in OTHER_NAMES.items():
        if not absent(fields, name) and absent(fields, other):
            fields[other] = fields[name]


def _apply_limits(rules: Rules, fields: Fields) -> None:
    """Put in the default length where none is asked for, and cut what is longer than allowed."""
    asked = [name for name in TOKEN_LIMITS if not absent(fields, name)]
    for name in asked:
        count = _tokens(fields, name)
        if rules.most_tokens is not None and count > rules.most_tokens:
            fields[name] = Raw(b"%d" % rules.most_tokens)
    if asked == ["n_predict"]:  # a name that LMDeploy does not know
        fields["max_tokens"] = fields["n_predict"]
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
        raise _system_refused(error) from None
    kept = [conversation[i] for i in choice.kept]
    if choice.own_system is not None and rules.system is not None:
        kept.insert(0, _joined(choice, turns) if choice.joins else rules.system)
    elif len(kept) == len(conversation):
        return
    fields["messages"] = Raw(_encoder.encode(kept))


def _conversation(fields: Fields) -> list[Raw]:
    if absent(fields, "messages"):
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
