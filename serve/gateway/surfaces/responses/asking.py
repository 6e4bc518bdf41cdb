"""Translates a Responses request into a chat completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from serve.gateway.answers.fixes import Json
from serve.gateway.fields import Fields, decoded
from serve.gateway.surfaces.responses import turns
from serve.gateway.surfaces.responses.requests import Choice, Format, ResponsesRequest, Text, Tool
from serve.gateway.surfaces.responses.serializer import ResponseSerializer
from serve.gateway.surfaces.retelling import Retelling
from serve.gateway.surfaces.translation import (
    COUNTED,
    Translation,
    encode,
    others,
    reads,
    refused,
)

KEEPS_NOTHING = "needs a server that keeps conversations; send the whole of it as 'input'"
REFUSED: Mapping[str, str] = {
    "previous_response_id": KEEPS_NOTHING,
    "conversation": KEEPS_NOTHING,
    "background": "needs a server that keeps responses; use 'stream'",
    "prompt": "names a prompt kept by OpenAI; send it as 'instructions'",
    "context_management": "is not done here; send the items that are meant",
    "moderation": "is not done here",
}
ELSEWHERE: Mapping[str, str] = {
    "messages": "use 'input'",
    "max_tokens": "use 'max_output_tokens'",
    "max_completion_tokens": "use 'max_output_tokens'",
    "n_predict": "use 'max_output_tokens'",
    "response_format": "use 'text.format'",
    "reasoning_effort": "use 'reasoning.effort'",
    "verbosity": "use 'text.verbosity'",
    "logprobs": "use 'include' and 'top_logprobs'",
    "n": "there is one answer to a request",
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
}
LOGPROBS = "message.output_text.logprobs"
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "store": (False,),
    "truncation": ("disabled",),
    "service_tier": ("auto", "default"),
}
"""What OpenAI does beside answering, and the values at which it asks for nothing."""

_read = reads(ResponsesRequest)


def translate(body: bytes, fields: Fields) -> Translation:
    """The chat completion that asks for the same.

    Raises:
        BadRequestError: it is not a request for a response, or no chat can ask for it.
    """
    asked = _read(body)
    known = asked.__struct_fields__
    passed = others(fields, known=known, elsewhere=ELSEWHERE, refusals=REFUSED)
    passed |= encode(_chat(asked))
    echo = _echo(asked)
    return Translation(
        fields=passed,
        retell=lambda sent: Retelling(ResponseSerializer({**echo, **_effective(sent)})),
        ignored=tuple(_ignored(asked)),
    )


def _chat(asked: ResponsesRequest) -> dict[str, Any]:
    first = [{"role": "system", "content": asked.instructions}] if asked.instructions else []
    text = asked.text or Text()
    tools, choice = _tools(asked)
    chances = LOGPROBS in (asked.include or ()) or bool(asked.top_logprobs)
    return {
        "model": asked.model,
        "messages": first + _said(asked.input),
        "max_tokens": asked.max_output_tokens,
        "stream": asked.stream,
        "stream_options": COUNTED if asked.stream else None,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "logprobs": chances or None,
        "top_logprobs": asked.top_logprobs if chances else None,
        "tools": tools or None,
        "tool_choice": choice if tools else None,
        "parallel_tool_calls": asked.parallel_tool_calls if tools else None,
        "response_format": None if text.format is None else _format(text.format),
        "verbosity": text.verbosity,
        "reasoning_effort": asked.reasoning.effort if asked.reasoning else None,
        "user": asked.user,
    }


def _said(given: Any) -> list[Json]:
    return [{"role": "user", "content": given}] if isinstance(given, str) else turns.of(given)


def _tools(asked: ResponsesRequest) -> tuple[list[Json], str | Json | None]:
    """The tools that may be called, and how they are chosen from."""
    given = [_tool(tool, i) for i, tool in enumerate(asked.tools or ())]
    choice = asked.tool_choice
    if not isinstance(choice, Choice):
        return given, choice
    if choice.type == "function" and choice.name:
        return given, {"type": "function", "function": {"name": choice.name}}
    if choice.type == "allowed_tools":
        allowed = {tool.name for tool in choice.tools}
        return [tool for tool in given if tool["function"]["name"] in allowed], choice.mode
    raise refused("tool_choice", f"is a '{choice.type}'; only functions can be chosen here")


def _tool(tool: Tool, place: int) -> Json:
    if tool.type != "function" or not tool.name:
        raise refused(
            f"tools[{place}]", f"is a '{tool.type}', which only OpenAI has; describe a 'function'"
        )
    function: Json = {"name": tool.name, "parameters": tool.parameters or {"type": "object"}}
    for name in ("description", "strict"):
        if (value := getattr(tool, name)) is not None:
            function[name] = value
    return {"type": "function", "function": function}


def _format(given: Format) -> Json | None:
    if given.type != "json_schema":
        return {"type": given.type}
    schema = {"name": given.name or "answer", "schema": given.schema or {}}
    for name in ("description", "strict"):
        if (value := getattr(given, name)) is not None:
            schema[name] = value
    return {"type": "json_schema", "json_schema": schema}


def _ignored(asked: ResponsesRequest) -> Iterator[str]:
    for name, values in NEUTRAL.items():
        if (value := getattr(asked, name)) is not None and value not in values:
            yield name
    for wish in asked.include or ():
        if wish != LOGPROBS:
            yield f"include: {wish}"
    if asked.reasoning is not None:
        for name in ("summary", "generate_summary"):
            if getattr(asked.reasoning, name) is not None:
                yield f"reasoning.{name}"


def _echo(asked: ResponsesRequest) -> Json:
    """What a response says of its request."""
    text = asked.text or Text()
    tools = [
        {"type": "function", "name": tool.name, "description": tool.description}
        | {"parameters": tool.parameters, "strict": tool.strict}
        for tool in asked.tools or ()
    ]
    return {
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": asked.max_tool_calls,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "tools": tools,
        "tool_choice": _chosen(asked.tool_choice),
        "text": {"format": _format_echo(text.format)},
        "top_logprobs": asked.top_logprobs or 0,
        "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None},
        "user": asked.user,
    }


def _chosen(choice: str | Choice | None) -> str | Json:
    if not isinstance(choice, Choice):
        return choice or "auto"
    if choice.type == "function":
        return {"type": "function", "name": choice.name}
    tools = [{"type": tool.type, "name": tool.name} for tool in choice.tools]
    return {"type": choice.type, "mode": choice.mode, "tools": tools}


def _format_echo(given: Format | None) -> Json:
    if given is None or given.type != "json_schema":
        return {"type": "text" if given is None else given.type}
    echo: Json = {"type": given.type, "name": given.name or "answer", "schema": given.schema or {}}
    return {**echo, "description": given.description, "strict": given.strict}


def _effective(sent: Fields) -> Json:
    """What the assistant's defaults have made of it."""
    return {name: decoded(sent, name) for name in ("model", "temperature", "top_p")}
