"""Translates a Messages request into a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve.gateway.answers.fixes import Json
from serve.gateway.fields import Fields, decoded
from serve.gateway.surfaces.messages import turns
from serve.gateway.surfaces.messages.requests import MessagesRequest, OutputConfig, Tool, ToolChoice
from serve.gateway.surfaces.messages.serializer import MessageSerializer
from serve.gateway.surfaces.retelling import Retelling
from serve.gateway.surfaces.translation import (
    COUNTED,
    Translation,
    encode,
    others,
    reads,
    refused,
)

REFUSED: Mapping[str, str] = {
    "container": "needs Anthropic's own machines",
    "context_management": "is not done here; send the messages that are meant",
    "mcp_servers": "is not done here; call tools yourself and send what they answer",
}
ELSEWHERE: Mapping[str, str] = {
    "stop": "use 'stop_sequences'",
    "max_completion_tokens": "use 'max_tokens'",
    "n_predict": "use 'max_tokens'",
    "response_format": "use 'output_config.format'",
    "reasoning_effort": "use 'output_config.effort'",
    "n": "there is one answer to a request",
    "input": "use 'messages'",
    "stream_options": "tokens are always told",
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
    "logprobs": "it has no place for log probabilities",
    "top_logprobs": "it has no place for log probabilities",
}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_read = reads(MessagesRequest)


def translate(body: bytes, fields: Fields) -> Translation:
    """The chat completion that asks for the same.

    Raises:
        BadRequestError: it is not a request for a message, or no chat can ask for it.
    """
    asked = _read(body)
    known = asked.__struct_fields__
    passed = others(fields, known=known, elsewhere=ELSEWHERE, refusals=REFUSED)
    passed |= encode(_chat(asked, decoded(passed, "chat_template_kwargs")))
    stops = tuple(asked.stop_sequences or ())
    return Translation(
        fields=passed,
        retell=lambda sent: Retelling(MessageSerializer(decoded(sent, "model"), stops)),
        ignored=_ignored(asked),
        names_stop=bool(stops),
    )


def _chat(asked: MessagesRequest, template: Json | None) -> dict[str, Any]:
    system = turns.system_text(asked.system)
    first = [] if system is None else [{"role": "system", "content": system}]
    choice, config = asked.tool_choice, asked.output_config or OutputConfig()
    return {
        "model": asked.model,
        "messages": [*first, *turns.of(asked.messages)],
        "max_tokens": asked.max_tokens,
        "stop": asked.stop_sequences or None,
        "stream": asked.stream,
        "stream_options": COUNTED if asked.stream else None,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "tools": [_tool(tool, i) for i, tool in enumerate(asked.tools or ())] or None,
        "tool_choice": None if choice is None else _choice(choice),
        "parallel_tool_calls": False if choice and choice.disable_parallel_tool_use else None,
        "chat_template_kwargs": _template(asked, template),
        "reasoning_effort": config.effort,
        "response_format": _format(config),
        "user": (asked.metadata or {}).get("user_id"),
    }


def _tool(tool: Tool, place: int) -> Json:
    if tool.type not in (None, "custom"):
        raise refused(
            f"tools[{place}]", f"is a '{tool.type}', which only Anthropic has; describe it yourself"
        )
    function: Json = {"name": tool.name, "parameters": tool.input_schema or {"type": "object"}}
    for name in ("description", "strict"):
        if (value := getattr(tool, name)) is not None:
            function[name] = value
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> str | Json:
    if choice.type != "tool":
        return _CHOICES[choice.type]
    if not choice.name:
        raise refused("tool_choice", "names no tool")
    return {"type": "function", "function": {"name": choice.name}}


def _template(asked: MessagesRequest, given: Json | None) -> Json | None:
    """Models that can be told to think are told so by their chat template."""
    if asked.thinking is None or asked.thinking.type == "adaptive":
        return given
    return {"enable_thinking": asked.thinking.type == "enabled", **(given or {})}


def _format(config: OutputConfig) -> Json | None:
    if config.format is None:
        return None
    schema = {"name": "answer", "schema": config.format.schema}
    return {"type": "json_schema", "json_schema": schema}


def _ignored(asked: MessagesRequest) -> tuple[str, ...]:
    """Anthropic's choices of how its own service is run."""
    neutral = {"speed": ("standard",), "inference_geo": ()}
    return tuple(
        name
        for name, values in neutral.items()
        if (value := getattr(asked, name)) is not None and value not in values
    )
