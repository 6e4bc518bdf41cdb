"""Builds the OpenAPI document from the table of operations."""

from __future__ import annotations

from http import HTTPStatus

from serve.gateway.answers.fixes import Json
from serve.gateway.openapi import answered, asked
from serve.gateway.openapi.answered import named
from serve.gateway.openapi.operations import BROKEN, EVENTS, JSON, OPERATIONS, Operation

INFO: Json = {
    "title": "Hanlin",
    "version": "1",
    "description": "A house of assistants behind one endpoint. A request names one of them as its "
    "model; what the assistant declares is applied, and one of its engines answers.",
}
KEYS: Json = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
STREAM = (
    "Where the request says `stream: true`. A failure after the first event is an event too; then "
    "the stream ends."
)
AGAIN: Json = {
    "Retry-After": {
        "description": "Seconds until it is worth a try.",
        "schema": {"type": "integer"},
    }
}


def document(*, needs_keys: bool) -> Json:
    """All of it; `needs_keys` tells whether this gateway is open."""
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        told = _operation(operation, needs_keys=needs_keys)
        paths.setdefault(operation.path, {})[operation.method] = told
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "paths": paths,
        "components": {
            "schemas": {**asked.schemas(), **answered.schemas()},
            "securitySchemes": KEYS,
        },
    }


def _operation(operation: Operation, *, needs_keys: bool) -> Json:
    told: Json = {
        "summary": operation.does,
        "operationId": _id(operation),
        "responses": _responses(operation, _fails(operation, needs_keys=needs_keys)),
        "security": [{name: []} for name in KEYS] if needs_keys and operation.needs_key else [],
    }
    if operation.parameters:
        told["parameters"] = list(operation.parameters)
    if operation.reads is not None:
        content = {JSON: {"schema": named(operation.reads)}}
        told["requestBody"] = {"required": True, "content": content}
    return told


def _id(operation: Operation) -> str:
    words = operation.path.replace("{", "").replace("}", "").replace(".", "/").split("/")
    return "_".join([operation.method, *filter(None, words)])


def _fails(operation: Operation, *, needs_keys: bool) -> tuple[int, ...]:
    """Where no key keeps web pages out that nobody let in, anything may be refused to them."""
    return operation.fails if needs_keys else tuple(sorted({*operation.fails, 403}))


def _responses(operation: Operation, fails: tuple[int, ...]) -> Json:
    told: Json = {}
    if operation.answers:
        content = {kind: {"schema": _schema(name)} for kind, name in operation.answers.items()}
        description = STREAM if EVENTS in operation.answers else "The answer."
        told["200"] = {"description": description, "content": content}
    for status, name in (operation.also or {}).items():
        content = {JSON: {"schema": named(name)}}
        told[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    for status in fails:
        told[str(status)] = _failure(status, operation.error)
    if set(BROKEN) <= set(operation.fails):  # asked of an engine, which may refuse in its own way
        told["4XX"] = {**_failure(400, operation.error), "description": "The engine refused."}
    return told


def _failure(status: int, error: str) -> Json:
    told: Json = {
        "description": HTTPStatus(status).phrase,
        "content": {JSON: {"schema": named(error)}},
    }
    return {**told, "headers": AGAIN} if status in (429, 503) else told


def _schema(name: str) -> Json:
    return named(name) if name else {"type": "string"}
