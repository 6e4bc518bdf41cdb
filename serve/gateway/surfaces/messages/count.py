"""Token counting, `/v1/messages/count_tokens`: the one call engines get in Anthropic's format.

Both kinds of engine count in that surface and no other that they share. The conversation they are
sent is what the assistant's rules make of the client's, as for an answer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assistants import Assistant
from assistants.prompt import select
from serve.gateway.answers.asked import Asked
from serve.gateway.answers.usage import Usage
from serve.gateway.errors import EngineFailedError
from serve.gateway.surfaces.messages import turns
from serve.gateway.surfaces.messages.requests import CountRequest, Message
from serve.gateway.surfaces.translation import reads

read = reads(CountRequest)


class _Counted(msgspec.Struct):
    input_tokens: int


_counted = msgspec.json.Decoder(_Counted)


def question(assistant: Assistant, asked: CountRequest) -> bytes:
    """What the assistant's engine is asked.

    Raises:
        SystemRefusedError: it has a system prompt and the assistant takes none.
        BadRequestError: the system prompt is not text.
    """
    system = turns.system_text(asked.system)
    said: list[tuple[str, str | None, Message | None]] = [
        (_role(message), _system(message, i), message) for i, message in enumerate(asked.messages)
    ]
    if system is not None:
        said.insert(0, ("system", system, None))
    choice = select(assistant, [role for role, _, _ in said])
    texts = [choice.own_system, *(said[i][1] for i in (*choice.joins, *choice.kept))]
    kept = [message for i in choice.kept if (message := said[i][2]) and said[i][0] != "system"]
    body: dict[str, Any] = {"model": assistant.name, "messages": kept}
    if system := "\n\n".join(text for text in texts if text):
        body["system"] = system
    for name in ("tools", "tool_choice", "thinking"):
        if (value := getattr(asked, name)) is not None:
            body[name] = value
    return msgspec.json.encode(body)


def answer(body: bytes, asked: Asked) -> tuple[bytes, Usage | None]:
    """What the client is told; it costs no tokens.

    Raises:
        EngineFailedError: it is no count.
    """
    try:
        return msgspec.json.encode(_counted.decode(body)), None
    except msgspec.DecodeError:
        raise EngineFailedError(f"The engine of '{asked.assistant}' gave no count.") from None


def _role(message: Message) -> str:
    """An answer of a tool's is no beginning of a turn."""
    return "tool" if turns.answers_only(message) else message.role


def _system(message: Message, place: int) -> str | None:
    if message.role != "system":
        return None
    return turns.system_text(message.content, f"messages[{place}].content")
