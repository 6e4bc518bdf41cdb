"""Schemas of request bodies: exactly what the gateway reads. The rest goes to the engine.

Of the surfaces that are translated everything is looked at, so their schemas are those types; of
OpenAI's older ones only a few fields are, and these are said here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from serve.gateway.answers.fixes import Json
from serve.gateway.order.settling import MOST_STOPS
from serve.gateway.surfaces.messages import asking as messages
from serve.gateway.surfaces.messages.requests import CountRequest, MessagesRequest
from serve.gateway.surfaces.responses import asking as responses
from serve.gateway.surfaces.responses.requests import ResponsesRequest

PLACE = "#/components/schemas/"

MODEL: Json = {"type": "string", "description": "The assistant, by its name or an alias."}


def schemas() -> dict[str, Json]:
    return {
        "ChatRequest": _chat(),
        "CompletionRequest": _completion(),
        "PromptRequest": _prompt(),
        **_of("Responses", ResponsesRequest, refused=responses.REFUSED),
        **_of("Messages", MessagesRequest, refused=messages.REFUSED),
        **_of("Messages", CountRequest, refused={}),
    }


def _of(surface: str, kind: type, *, refused: Mapping[str, str]) -> dict[str, Json]:
    """The schemas of a type and all it consists of, by names that no other surface has."""
    name = kind.__name__
    whole = f"{surface}{name.removeprefix(surface)}"
    template = PLACE + surface + "{name}"
    _, parts = msgspec.json.schema_components([kind], ref_template=template)
    found: dict[str, Json] = {surface + part: schema for part, schema in parts.items()}
    found[whole] = found.pop(surface + name)
    for field, why in refused.items():
        nothing: Json = {
            "enum": [None, False, [], {}],
            "description": f"{why[:1].upper()}{why[1:]}.",
        }
        found[whole]["properties"][field] = nothing
    return found


def _chat() -> Json:
    message = {
        "type": "object",
        "required": ["role"],
        "properties": {"role": {"type": "string"}, "content": {}},
    }
    messages = {"type": "array", "minItems": 1, "items": message}
    return _passing({"messages": messages}, ["model", "messages"])


def _completion() -> Json:
    prompt = {"not": {"type": "null"}, "description": "A text, or a list of texts or of tokens."}
    return _passing({"prompt": prompt}, ["model", "prompt"])


def _passing(fields: Json, required: list[str]) -> Json:
    """Fields that are looked at; all others go to the engine as they are."""
    stop = {"type": "string", "minLength": 1}
    count = _or_null({"type": "integer", "minimum": 1})
    return {
        "type": "object",
        "required": required,
        "description": "Every other field goes to the engine as it is.",
        "properties": {
            "model": MODEL,
            **fields,
            "stream": {"type": ["boolean", "null"]},
            "max_tokens": count,
            "max_completion_tokens": count,
            "n_predict": count,
            "stop": _or_null(stop, {"type": "array", "maxItems": MOST_STOPS, "items": stop}),
        },
    }


def _prompt() -> Json:
    values = {"type": "object", "additionalProperties": {"type": "string"}, "default": {}}
    message = {"type": "string", "default": ""}
    return {"type": "object", "properties": {"values": values, "message": message}}


def _or_null(*schemas: Json) -> Json:
    return {"anyOf": [*schemas, {"type": "null"}]}
