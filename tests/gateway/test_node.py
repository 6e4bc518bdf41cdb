"""The official Node client, as its users would use it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running
from tests.gateway.test_failures import WORDS

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]

CLIENT = Path(__file__).with_name("openai_client.cjs")
PACKAGE = "openai@7.57.0"
INSTALL_SECONDS = 120
FORBIDDEN = ("NODE_OPTIONS", "OPENAI_API_KEY", "OPENAI_BASE_URL")


@pytest.fixture(scope="session")
def modules(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the client is; installed once and kept in pytest's cache, where it has one."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (Debian: nodejs, npm)")
    cache, name = getattr(pytestconfig, "cache", None), PACKAGE.replace("@", "-")
    folder = tmp_path_factory.mktemp(name) if cache is None else cache.mkdir(name)
    if not (folder / "node_modules" / "openai" / "package.json").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, PACKAGE]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"needs {PACKAGE} from the npm registry, which did not answer in time")
        if done.returncode:
            pytest.skip(f"needs {PACKAGE} from the npm registry: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.fixture
def node(modules: Path) -> Any:
    """Plays a scenario of the client against a gateway."""
    environment = {name: value for name, value in os.environ.items() if name not in FORBIDDEN}

    async def play(gateway: Running, scenario: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            "node", CLIENT, f"{gateway.url}/v1", scenario,
            stdout=asyncio.subprocess.PIPE, env={**environment, "NODE_PATH": str(modules)},
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(said)

    return play


async def test_a_chat(engine: EngineStub, gateway_for: Any, node: Any) -> None:
    answer = (await node(await gateway_for(engine), "chat"))["result"]
    assert answer["choices"][0]["message"]["content"] == WORDS
    assert (answer["model"], answer["usage"]["total_tokens"]) == ("wishes", 8)
    assert answer["request_id"]


async def test_a_stream(engine: EngineStub, gateway_for: Any, node: Any) -> None:
    chunks = (await node(await gateway_for(engine), "stream"))["result"]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == WORDS
    assert choices[-1]["finish_reason"] == "stop"


async def test_its_helper_for_streams(engine: EngineStub, gateway_for: Any, node: Any) -> None:
    told = (await node(await gateway_for(engine), "helper"))["result"]
    message = told["whole"]["choices"][0]["message"]
    assert told["text"] == message["content"] == WORDS
    assert message["role"] == "assistant"


async def test_the_models(engine: EngineStub, gateway_for: Any, node: Any) -> None:
    assert (await node(await gateway_for(engine), "models"))["result"] == ["wishes"]


async def test_responses(engine: EngineStub, gateway_for: Any, node: Any) -> None:
    told = (await node(await gateway_for(engine), "responses"))["result"]
    assert told == {"status": "completed", "text": WORDS}


@pytest.mark.parametrize(
    ("scenario", "plan", "error", "status", "code"),
    [
        ("unknown", {}, "NotFoundError", 404, "model_not_found"),
        ("empty", {}, "BadRequestError", 400, None),
        ("chat", {"status": 429, "body": b"{}"}, "RateLimitError", 429, "rate_limit_exceeded"),
        ("chat", {"die": "head"}, "InternalServerError", 502, "engine_dropped"),
        ("fails", {"die": "reset"}, "APIError", None, "engine_dropped"),
    ],
)
async def test_the_right_error(
    engine_with: Any, gateway_for: Any, node: Any, scenario: str, plan: Any, error: str,
    status: int | None, code: str | None,
) -> None:  # fmt: skip
    told = await node(await gateway_for(await engine_with(**plan)), scenario)
    assert (told["error"], told["known"]) == (error, True)
    assert (told.get("status"), told["code"]) == (status, code)


async def test_leaving_in_the_middle_ends_the_engines_work(
    engine_with: Any, gateway_for: Any, node: Any
) -> None:
    engine = await engine_with(tokens=100_000, tokens_per_second=200)
    told = await node(await gateway_for(engine), "leave")
    assert told["result"] == 3
    await engine.until(lambda e: e.aborted and not e.open)
