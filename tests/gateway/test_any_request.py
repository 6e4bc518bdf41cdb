"""Whatever a client sends, as the document allows or not: an answer comes, and it is no 500."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)
SECONDS = 20
"""Longer than any of these may take, and shorter than a test."""
FIELDS: dict[str, list[str]] = {
    "/v1/chat/completions": [
        "messages", "stream", "stop", "max_tokens", "max_completion_tokens", "n_predict", "n",
        "stream_options", "temperature", "repetition_penalty", "logprobs", "tools", "user",
        "prompt_cache_key", "functions", "logit_bias",
    ],
    "/v1/completions": ["prompt", "stream", "stop", "max_tokens", "n", "logprobs", "echo"],
    "/v1/responses": [
        "input", "instructions", "stream", "text", "tools", "tool_choice", "reasoning", "store",
        "previous_response_id", "max_output_tokens", "include",
    ],
    "/v1/messages": [
        "messages", "system", "stream", "max_tokens", "stop_sequences", "tools", "tool_choice",
        "thinking", "metadata", "top_k",
    ],
    "/v1/messages/count_tokens": ["messages", "system", "tools"],
    "/v1/embeddings": ["input", "encoding_format"],
    "/v1/assistants/wishes/prompt": ["values", "message"],
}  # fmt: skip

texts = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates are JSON too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "developer", "x"])},
        optional={
            "content": anything
            | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": anything})),
            "tool_calls": anything,
            "type": st.sampled_from(["message", "function_call", "function_call_output"]),
        },
    ),
    max_size=4,
)


def bodies(path: str) -> st.SearchStrategy[bytes]:
    """Bodies that name an assistant, with any of the fields as anything; and any bytes."""
    fields = {
        name: messages | anything if name in ("messages", "input") else anything
        for name in FIELDS[path]
    }
    first = {"model": st.just("wishes") | anything}
    fields = {name: st.sampled_from([True, False]) if name == "stream" else field
              for name, field in fields.items()}  # fmt: skip
    objects = st.fixed_dictionaries(first, optional=fields)
    return (objects | anything).map(lambda body: json.dumps(body).encode()) | st.binary()


@pytest.fixture
async def gateway(engine: EngineStub, gateway_for: Any) -> Running:
    running: Running = await gateway_for(
        engine, settings={"access_log": False}, system="s", sampling={"stop": ["word4"]}
    )
    return running


@pytest.mark.parametrize("path", FIELDS)
async def test_any_body(gateway: Running, engine: EngineStub, path: str) -> None:
    with httpx.Client(base_url=gateway.url, timeout=SECONDS) as http:

        @settings(max_examples=100, derandomize=True, database=None)
        @given(bodies(path))
        @example(b'{"model":"wishes","messages":' + b"[" * 20_000 + b"]" * 20_000 + b"}")
        @example(b'{"model":"wishes","model":"nobody","messages":[]}')
        def ask(body: bytes) -> None:
            reply = http.post(path, content=body, headers={"content-type": "application/json"})
            assert reply.status_code < 500, reply.text
            if reply.headers["content-type"].startswith("application/json"):
                assert reply.json() is not None
            else:
                assert reply.text.endswith("\n\n")

        await asyncio.to_thread(ask)
    await engine.until(lambda e: not e.open)


async def test_what_the_document_says(gateway: Running, tmp_path: Path) -> None:
    """schemathesis makes up requests from it, good and bad, and holds the answers against it."""
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        told = (await http.get("/openapi.json")).json()
    for schema in told["components"]["schemas"].values():
        if "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"enum": ["wishes"]}  # few would guess it
    (tmp_path / "openapi.json").write_text(json.dumps(told), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"), "run", tmp_path / "openapi.json",
        "--url", gateway.url, "--phases", "coverage,fuzzing", "--max-examples", "5", "--checks",
        CHECKS, "--generation-deterministic", "--warnings", "off", "--no-color",
        "--request-timeout", str(SECONDS), cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()[-6000:]
