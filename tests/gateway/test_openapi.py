"""The OpenAPI document against the gateway itself: its routes, its errors, its answers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from serve.gateway.admission.keys import KeySources
from serve.gateway.app import Gateway, create_app
from serve.gateway.openapi import document, page
from serve.gateway.openapi.operations import OPERATIONS
from serve.gateway.settings import GatewaySettings
from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running, declare, house_of

USER = [{"role": "user", "content": "hi"}]
BODIES: dict[str, Any] = {
    "/v1/chat/completions": {"model": "wishes", "messages": USER, "stop": ["x"]},
    "/v1/completions": {"model": "wishes", "prompt": "hi"},
    "/v1/responses": {"model": "wishes", "input": "hi"},
    "/v1/messages": {"model": "wishes", "messages": USER, "max_tokens": 5},
    "/v1/messages/count_tokens": {"model": "wishes", "messages": USER},
    "/v1/embeddings": {"model": "wishes", "input": "hi"},
    "/v1/assistants/{name}/prompt": {"message": "hi"},
}
WRONG: dict[str, list[Any]] = {
    "/v1/chat/completions": [
        {"messages": USER},
        {"model": 5, "messages": USER},
        {"model": "wishes", "messages": []},
        {"model": "wishes", "messages": [{"content": "hi"}]},
        {"model": "wishes", "messages": USER, "stream": "yes"},
        {"model": "wishes", "messages": USER, "max_tokens": 0},
        {"model": "wishes", "messages": USER, "max_completion_tokens": "1"},
        {"model": "wishes", "messages": USER, "stop": ""},
        {"model": "wishes", "messages": USER, "stop": ["a", "b", "c", "d", "e"]},
    ],
    "/v1/completions": [{"model": "wishes"}, {"model": "wishes", "prompt": None}],
    "/v1/responses": [
        {"model": "wishes"},
        {"model": "wishes", "input": 1},
        {"model": "wishes", "input": []},
        {"model": "wishes", "input": "hi", "previous_response_id": "r"},
        {"model": "wishes", "input": "hi", "background": True},
        {"model": "wishes", "input": "hi", "text": {"format": {"type": "x"}}},
    ],
    "/v1/messages": [
        {"model": "wishes", "messages": []},
        {"model": "wishes", "messages": [{"role": "tool", "content": "hi"}]},
        {"model": "wishes", "messages": USER, "max_tokens": -1},
        {"model": "wishes", "messages": USER, "mcp_servers": [{"a": 1}]},
    ],
    "/v1/messages/count_tokens": [{"model": "wishes", "messages": [{"role": "user"}]}],
    "/v1/assistants/{name}/prompt": [{"values": {"a": 1}}],
}


@pytest.fixture
def app() -> Gateway:
    return create_app(GatewaySettings(), house_of(declare(upstreams=["http://127.0.0.1:1"])))


@pytest.fixture
def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document(needs_keys=True)))
    return found


def problems(described: dict[str, Any], schema: dict[str, Any], found: Any) -> list[str]:
    validator = Draft202012Validator({**schema, "components": described["components"]})
    return [error.message for error in validator.iter_errors(found)]


def test_it_tells_every_route_and_no_other(app: Gateway) -> None:
    routes = {
        (method.lower(), route.path)  # type: ignore[attr-defined]
        for route in app.routes
        for method in route.methods  # type: ignore[attr-defined]
        if method != "HEAD"
    }
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}
    assert set(app.hot) < {operation.path for operation in OPERATIONS}


def test_all_it_refers_to_is_there(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    spoken_of = set(json.dumps(described).split('"#/components/schemas/')[1:])
    named = {rest.partition('"')[0] for rest in spoken_of}
    assert named == set(schemas)
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: f"{found.method} {found.path}")
@pytest.mark.parametrize("theirs", [False, True])
async def test_answers_are_as_told(
    gateway_for: Any, engine: EngineStub, operation: Any, theirs: bool
) -> None:
    gateway: Running = await gateway_for(engine)
    headers = {"anthropic-version": "2023-06-01"} if theirs else {}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as http:
        described = (await http.get("/openapi.json")).json()
        body = BODIES.get(operation.path)
        path = operation.path.replace("{name}", "wishes")
        answer = await http.request(operation.method, path, json=body)
    told = described["paths"][operation.path][operation.method]
    content = told["responses"][str(answer.status_code)]["content"]
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "application/json":
        assert problems(described, content[kind]["schema"], answer.json()) == []
    else:
        assert kind in content
    if body is not None and "requestBody" in told:
        schema = told["requestBody"]["content"]["application/json"]["schema"]
        assert problems(described, schema, body) == []


@pytest.mark.parametrize(
    ("path", "body"), [(path, body) for path, bodies in WRONG.items() for body in bodies]
)
async def test_what_it_forbids_is_refused(
    gateway_for: Any, engine: EngineStub, path: str, body: Any
) -> None:
    gateway: Running = await gateway_for(engine)
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        described = (await http.get("/openapi.json")).json()
        answer = await http.post(path.replace("{name}", "wishes"), json=body)
    told = described["paths"][path]["post"]
    schema = told["requestBody"]["content"]["application/json"]["schema"]
    assert problems(described, schema, body) != []
    assert answer.status_code == 400
    error = told["responses"]["400"]["content"]["application/json"]["schema"]
    assert problems(described, error, answer.json()) == []
    assert engine.requests == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: f"{found.method} {found.path}")
async def test_keys_are_asked_for_where_it_says(
    gateway_for: Any, engine: EngineStub, operation: Any
) -> None:
    gateway = await gateway_for(engine, settings={"keys": KeySources(plain=("hl-one",))})
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        described = (await http.get("/openapi.json")).json()
        path = operation.path.replace("{name}", "wishes")
        answer = await http.request(operation.method, path, json=BODIES.get(operation.path))
    told = described["paths"][operation.path][operation.method]
    assert bool(told["security"]) == operation.needs_key == (answer.status_code == 401)
    assert not operation.needs_key or 401 in operation.fails


def test_the_page_tells_all_of_it(described: dict[str, Any]) -> None:
    shown = page(described)
    for operation in OPERATIONS:
        assert operation.path in shown
    assert "http://" not in shown
    assert "https://" not in shown


def test_a_house_without_keys_asks_for_none() -> None:
    told = document(needs_keys=False)
    assert all(not of["security"] for ways in told["paths"].values() for of in ways.values())
