"""What engines say when they fail is understood in every shape they have for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from serve.gateway.answers.engine_error import from_event, from_reply, read
from serve.gateway.errors import EngineFailedError, EngineRefusedError, envelope
from tests.gateway.openai_schema import ERROR, problems
from tests.gateway.test_assistant import JSON_VALUES

SAID = Path(__file__).with_name("said")

FASTAPI = [
    {"type": "missing", "loc": ["body", "messages", 0, "role"], "msg": "Field required"},
    {"type": "int", "loc": ["body", "n"], "msg": "Input should be a valid integer"},
]


@pytest.mark.parametrize(
    ("body", "message", "param", "code"),
    [
        (
            (SAID / "lmdeploy-bad.json").read_bytes(),
            "messages: Input should be a valid list",
            "messages",
            None,
        ),
        (
            (SAID / "lmdeploy-long.json").read_bytes(),
            "Input length (4508) must be smaller than the model context length (256).",
            None,
            "context_length_exceeded",
        ),
        (
            b'{"message":"The request exceeds the model context length.","code":400}',
            "The request exceeds the model context length.",
            None,
            "context_length_exceeded",
        ),
        (
            (SAID / "llamacpp-bad.json").read_bytes(),
            "Expected 'messages' to be an array",
            None,
            None,
        ),
        (
            (SAID / "llamacpp-long.json").read_bytes(),
            "request (4508 tokens) exceeds the available context size (1024 tokens), try "
            "increasing it",
            None,
            "context_length_exceeded",
        ),
        (
            json.dumps({"detail": FASTAPI}).encode(),
            "messages[0].role: Field required; n: Input should be a valid integer",
            "messages[0].role",
            None,
        ),
        (
            b'{"detail":[{"loc":["body"],"msg":"JSON decode error"}]}',
            "JSON decode error",
            None,
            None,
        ),
        (b'{"detail":["x",7]}', "x; 7", None, None),
        (b'{"detail":[]}', "it gave no reason", None, None),
        (b'{"detail":"Not Found"}', "Not Found", None, None),
        (b'{"error":"boom"}', "boom", None, None),
        (b'{"error":{"message":"m","param":"p","code":"c"}}', "m", "p", "c"),
        (b"Internal Server Error", "Internal Server Error", None, None),
        (b"<html>", "it gave no reason", None, None),
        (b"", "it gave no reason", None, None),
    ],
)
def test_what_an_engine_says_of_a_request(
    body: bytes, message: str, param: str | None, code: str | None
) -> None:
    error = from_reply("wishes", 400, body)
    assert isinstance(error, EngineRefusedError)
    assert (str(error), error.param, error.code) == (message, param, code)


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_what_only_the_gateway_could_have_asked_better_is_no_fault_of_the_clients(
    status: int,
) -> None:
    error = from_reply("wishes", status, b'{"detail":"Not Found"}')
    assert isinstance(error, EngineFailedError)
    assert str(error) == f"The engine of 'wishes' answered {status}: Not Found"


@given(JSON_VALUES)
def test_whatever_it_says_becomes_openais_envelope(said: Any) -> None:
    for body in (said, {"error": said}, {"detail": said}, {"detail": [said, {"loc": said}]}):
        data = json.dumps(body).encode()
        read(data)
        for error in (from_event("wishes", data), *(from_reply("w", s, data) for s in (400, 500))):
            assert problems(ERROR, json.loads(envelope(error))) == []


@pytest.mark.parametrize(
    "message",
    [
        "image input is not supported - hint: if this is unexpected, you may need to provide the "
        "mmproj",
        'Failed to parse tools: Expected \'tools\' to be an array, got "x"; tools = "x"',
    ],
)
def test_what_llamacpp_says_under_500_of_a_request_is_its_clients(message: str) -> None:
    said = {"error": {"code": 500, "message": message, "type": "server_error"}}
    error = from_reply("wishes", 500, json.dumps(said).encode())
    assert isinstance(error, EngineRefusedError)
    assert (error.status, str(error), error.elsewhere) == (400, message, False)
    broken = from_reply("wishes", 500, b'{"error":{"code":500,"message":"CUDA out of memory"}}')
    assert isinstance(broken, EngineFailedError)
