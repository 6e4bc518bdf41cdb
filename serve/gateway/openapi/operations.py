"""The table of operations: every path, its body, its answers, its errors. The only such table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serve.gateway.answers.fixes import Json

REFUSED = (400, 401, 403, 404, 408, 413, 415, 429, 431)
BROKEN = (500, 502, 503, 504)

EVENTS = "text/event-stream"
JSON = "application/json"

NAME: Json = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "An assistant, by its name or an alias.",
    "schema": {"type": "string", "minLength": 1},
}
ANTHROPIC: Json = {
    "name": "anthropic-version",
    "in": "header",
    "description": "Sent by Anthropic's clients; they are answered in Anthropic's words.",
    "schema": {"type": "string"},
}


def _of_page(name: str, what: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": what, "schema": schema}


PAGE: tuple[Json, ...] = (
    _of_page(
        "limit",
        "At most so many; for Anthropic's clients.",
        {"type": "integer", "minimum": 1, "maximum": 1000},
    ),
    _of_page("after_id", "Those after this one; for Anthropic's clients.", {"type": "string"}),
    _of_page("before_id", "Those before this one; for Anthropic's clients.", {"type": "string"}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One way to ask the gateway something."""

    method: str
    path: str
    does: str
    answers: Mapping[str, str]
    """Media type → schema of an answer under 200; without a schema it is text."""
    reads: str | None = None
    """Schema of the body."""
    fails: tuple[int, ...] = ()
    error: str = "Error"
    """Outside the ways to ask, it depends on whose client asks."""
    also: Mapping[int, str] | None = None
    """Other statuses that are no failures of the request → schema."""
    parameters: tuple[Json, ...] = ()
    needs_key: bool = True


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        does="Ask an assistant, as OpenAI's chat completions do",
        reads="ChatRequest",
        answers={JSON: "ChatCompletion", EVENTS: "ChatEvent"},
        fails=REFUSED + BROKEN,
    ),
    Operation(
        method="post",
        path="/v1/completions",
        does="Have a text continued, without system prompt or chat template",
        reads="CompletionRequest",
        answers={JSON: "Completion", EVENTS: "CompletionEvent"},
        fails=REFUSED + BROKEN,
    ),
    Operation(
        method="post",
        path="/v1/responses",
        does="Ask an assistant, as OpenAI's responses do; nothing is kept",
        reads="ResponsesRequest",
        answers={JSON: "Response", EVENTS: "ResponseEvent"},
        fails=REFUSED + BROKEN,
    ),
    Operation(
        method="post",
        path="/v1/messages",
        does="Ask an assistant, as Anthropic's messages do",
        reads="MessagesRequest",
        answers={JSON: "Message", EVENTS: "MessageEvent"},
        fails=REFUSED + BROKEN,
        error="AnthropicError",
        parameters=(ANTHROPIC,),
    ),
    Operation(
        method="post",
        path="/v1/messages/count_tokens",
        does="How many tokens the prompt of a message would have, as the engine counts",
        reads="MessagesCountRequest",
        answers={JSON: "TokenCount"},
        fails=REFUSED + BROKEN,
        error="AnthropicError",
        parameters=(ANTHROPIC,),
    ),
    Operation(
        method="post",
        path="/v1/embeddings",
        does="Always refused: assistants write text",
        answers={},
        fails=(400, 401),
        error="AnyError",
    ),
    Operation(
        method="get",
        path="/v1/models",
        does="The assistants that the key may use",
        answers={JSON: "ModelList"},
        fails=(400, 401),
        error="AnyError",
        parameters=(ANTHROPIC, *PAGE),
    ),
    Operation(
        method="get",
        path="/v1/models/{name}",
        does="One assistant",
        answers={JSON: "Model"},
        fails=(401, 403, 404),
        error="AnyError",
        parameters=(NAME, ANTHROPIC),
    ),
    Operation(
        method="post",
        path="/v1/assistants/{name}/prompt",
        does="The prompt that an assistant's controls stand for",
        reads="PromptRequest",
        answers={JSON: "Prompt"},
        fails=(400, 401, 403, 404, 413),
        error="AnyError",
        parameters=(NAME,),
    ),
    Operation(
        method="get",
        path="/health",
        does="Whether the gateway runs",
        answers={JSON: "Health"},
        error="AnyError",
        needs_key=False,
    ),
    Operation(
        method="get",
        path="/ready",
        does="Whether an assistant can be served",
        answers={JSON: "Readiness"},
        also={503: "Readiness"},
        error="AnyError",
        needs_key=False,
    ),
    Operation(
        method="get",
        path="/metrics",
        does="Numbers, for Prometheus",
        answers={"text/plain": "", "application/openmetrics-text": ""},
        error="AnyError",
        needs_key=False,
    ),
    Operation(
        method="get",
        path="/openapi.json",
        does="This document",
        answers={JSON: "Document"},
        error="AnyError",
        needs_key=False,
    ),
    Operation(
        method="get",
        path="/docs",
        does="This document, to be read",
        answers={"text/html": ""},
        error="AnyError",
        needs_key=False,
    ),
)
