"""Answers and events as the clients' own types have them, which the clients do not check."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from anthropic import AsyncAnthropic
from anthropic.types import Message, RawMessageStreamEvent
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

OPENAI: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ANTHROPIC: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
USER: Any = [{"role": "user", "content": "hi"}]


async def ask(client: AsyncAnthropic, **given: Any) -> Any:
    asked = {"model": "wishes", "max_tokens": 100, "messages": USER, **given}
    return await client.messages.create(**asked)


def response(found: Response) -> Response:
    return Response.model_validate(found.to_dict())


def message(found: Message) -> Message:
    return Message.model_validate(found.to_dict())


async def responses(stream: Any) -> list[Any]:
    """The events of a stream, in their order."""
    events = [OPENAI.validate_python(event.to_dict()) async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events


async def messages(stream: AsyncIterator[Any]) -> list[Any]:
    return [ANTHROPIC.validate_python(event.to_dict()) async for event in stream]
