"""Schemas of answers: the fields that are always there. Engines may add others."""

from __future__ import annotations

from serve.gateway.answers.fixes import Json
from serve.gateway.surfaces.messages.failure import TYPES

MESSAGE_EVENTS = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
    "error",
)
STRING: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
TEXT_OR_NULL: Json = {"type": ["string", "null"]}


def schemas() -> dict[str, Json]:
    return {
        **_errors(),
        **_completions(),
        **_response(),
        **_message(),
        **_events(),
        **_models(),
        **_others(),
    }


def an_object(required: Json, optional: Json | None = None) -> Json:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": sorted(required), "properties": properties}


def a_list(items: Json) -> Json:
    return {"type": "array", "items": items}


def one_of(*values: str | None) -> Json:
    return {"enum": list(values)}


def named(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _errors() -> dict[str, Json]:
    error = {"message": STRING, "type": STRING, "param": TEXT_OR_NULL, "code": TEXT_OR_NULL}
    types = sorted({*TYPES.values(), "api_error", "invalid_request_error"})
    theirs = {"type": one_of(*types), "message": STRING}
    return {
        "Error": an_object({"error": an_object(error)}),
        "AnthropicError": an_object({"type": one_of("error"), "error": an_object(theirs)}),
        "AnyError": {"oneOf": [named("Error"), named("AnthropicError")]},
    }


def _completions() -> dict[str, Json]:
    usage = {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT}
    head = {"id": STRING, "created": {"type": "integer"}, "model": STRING}
    said = {"role": one_of("assistant"), "content": TEXT_OR_NULL, "refusal": TEXT_OR_NULL}
    ends = ("stop", "length", "content_filter")
    message = an_object(said, {"tool_calls": a_list({"type": "object"})})
    of_chat = {"message": message, "finish_reason": one_of(*ends, "tool_calls", "function_call")}
    of_text = {"text": STRING, "finish_reason": one_of(*ends)}
    chat, text = ({"index": COUNT, "logprobs": {}, **own} for own in (of_chat, of_text))
    counted = {"usage": named("Usage")}
    return {
        "Usage": an_object(usage),
        "ChatCompletion": an_object(
            {**head, "object": one_of("chat.completion"), "choices": a_list(an_object(chat))},
            counted,
        ),
        "Completion": an_object(
            {**head, "object": one_of("text_completion"), "choices": a_list(an_object(text))},
            counted,
        ),
    }


def _response() -> dict[str, Json]:
    usage = {
        "input_tokens": COUNT,
        "input_tokens_details": an_object({"cached_tokens": COUNT, "cache_write_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": an_object({"reasoning_tokens": COUNT}),
        "total_tokens": COUNT,
    }
    why = an_object({"reason": one_of("max_output_tokens", "content_filter")})
    item = {"type": one_of("message", "function_call", "reasoning"), "id": STRING, "status": STRING}
    response = {
        "id": STRING,
        "object": one_of("response"),
        "created_at": {"type": "integer"},
        "model": STRING,
        "status": one_of("completed", "incomplete"),
        "output": a_list(an_object(item)),
        "error": {"type": "null"},
        "incomplete_details": {"anyOf": [why, {"type": "null"}]},
        "instructions": TEXT_OR_NULL,
        "metadata": {"type": "object"},
        "parallel_tool_calls": {"type": "boolean"},
        "temperature": {"type": ["number", "null"]},
        "top_p": {"type": ["number", "null"]},
        "tools": a_list({"type": "object"}),
        "tool_choice": {"type": ["string", "object"]},
        "usage": {"anyOf": [an_object(usage), {"type": "null"}]},
    }
    return {"Response": an_object(response)}


def _message() -> dict[str, Json]:
    usage = {
        name: COUNT
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        )
    }
    reasons = ("end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal")
    message = {
        "id": STRING,
        "type": one_of("message"),
        "role": one_of("assistant"),
        "model": STRING,
        "content": a_list(an_object({"type": one_of("text", "thinking", "tool_use")})),
        "stop_reason": one_of(*reasons),
        "stop_sequence": TEXT_OR_NULL,
        "usage": an_object(usage),
    }
    return {"Message": an_object(message), "TokenCount": an_object({"input_tokens": COUNT})}


def _events() -> dict[str, Json]:
    """One event of a stream: its name, and its data, which is JSON in a string."""

    def event(of_what: str, names: Json) -> Json:
        return an_object({"data": {"type": "string", "description": of_what}}, {"event": names})

    plain = {"type": "string", "description": "Not sent."}
    done = "An event of OpenAI's, at last `[DONE]`: "
    return {
        "ChatEvent": event(f"{done}a chat.completion.chunk, or an error.", plain),
        "CompletionEvent": event(f"{done}a text_completion, or an error.", plain),
        "ResponseEvent": event("The event, its type and number in it.", STRING),
        "MessageEvent": event("The event, its type in it.", one_of(*MESSAGE_EVENTS)),
    }


def _models() -> dict[str, Json]:
    created = {"type": "integer"}
    ours = {"id": STRING, "object": one_of("model"), "created": created, "owned_by": STRING}
    more = {"state": STRING, "title": {"type": "object"}, "aliases": a_list(STRING)}
    more |= {"reason": TEXT_OR_NULL}
    theirs = {
        "id": STRING,
        "type": one_of("model"),
        "display_name": STRING,
        "created_at": {"type": "string", "format": "date-time"},
        "lifecycle": one_of("active"),
    }
    page = {
        "data": a_list(named("AnthropicModel")),
        "has_more": {"type": "boolean"},
        "first_id": TEXT_OR_NULL,
        "last_id": TEXT_OR_NULL,
    }
    mine = {"object": one_of("list"), "data": a_list(named("OpenAIModel"))}
    return {
        "OpenAIModel": an_object(ours, more),
        "AnthropicModel": an_object(theirs),
        "Model": {"oneOf": [named("OpenAIModel"), named("AnthropicModel")]},
        "ModelList": {"oneOf": [an_object(mine), an_object(page)]},
    }


def _others() -> dict[str, Json]:
    states = {"type": "object", "additionalProperties": STRING}
    status = one_of("ready", "starting", "draining")
    return {
        "Prompt": an_object({"prompt": STRING}),
        "Health": an_object({"status": one_of("ok")}),
        "Readiness": an_object({"status": status, "assistants": states, "problem": TEXT_OR_NULL}),
        "Document": {"type": "object"},
    }
