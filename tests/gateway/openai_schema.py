"""What OpenAI publishes of its answers, as a judge of ours."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

PUBLISHED = Path(__file__).with_name("published") / "openai.json"

CHAT = "CreateChatCompletionResponse"
CHAT_CHUNK = "CreateChatCompletionStreamResponse"
TEXT = "CreateCompletionResponse"
TEXT_CHUNK = "text chunk"
"""Published as the same as a whole completion, which it is not: until the last, an event has no
reason to have ended, and OpenAI sends null there."""
MODELS = "ListModelsResponse"
MODEL = "Model"
ERROR = "ErrorResponse"


@cache
def _validator(kind: str) -> Draft202012Validator:
    components = json.loads(PUBLISHED.read_text(encoding="utf-8"))["components"]
    schemas = _nullable(components["schemas"])
    schemas[TEXT_CHUNK] = json.loads(json.dumps(schemas[TEXT]))
    choice = schemas[TEXT_CHUNK]["properties"]["choices"]["items"]["properties"]
    choice["finish_reason"]["enum"].append(None)
    choice["finish_reason"]["type"] = ["string", "null"]
    root = {"$ref": f"#/components/schemas/{kind}", "components": {"schemas": schemas}}
    return Draft202012Validator(root)


def _nullable(node: Any) -> Any:
    """OpenAPI 3.0's `nullable`, still found in the document, in words that JSON Schema knows."""
    if isinstance(node, list):
        return [_nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {name: _nullable(value) for name, value in node.items() if name != "nullable"}
    return {"anyOf": [found, {"type": "null"}]} if node.get("nullable") is True else found


def problems(kind: str, found: Any) -> list[str]:
    """Everything about an answer that is not as published."""
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in _validator(kind).iter_errors(found)
    ]
