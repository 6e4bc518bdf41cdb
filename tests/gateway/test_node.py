"""The official Node client, as its users would use it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running
from tests.gateway.test_failures import WORDS

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]

CLIENT = Path(__file__).with_name("openai_client.cjs")
PACKAGES = ("openai@7.57.0", "typescript@7.0.2")
INSTALL_SECONDS = 120
FORBIDDEN = ("NODE_OPTIONS", "OPENAI_API_KEY", "OPENAI_BASE_URL")


@pytest.fixture(scope="session")
def modules(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where client and compiler are; installed once and kept in pytest's cache, if it has one."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (Debian: nodejs, npm)")
    cache, name = getattr(pytestconfig, "cache", None), "-".join(PACKAGES).replace("@", "-")
    folder = tmp_path_factory.mktemp(name) if cache is None else cache.mkdir(name)
    made = [folder / "node_modules" / package.partition("@")[0] for package in PACKAGES]
    if not all((package / "package.json").exists() for package in made):
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *PACKAGES]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"needs {PACKAGES} from the npm registry, which did not answer in time")
        if done.returncode:
            pytest.skip(f"needs {PACKAGES} from the npm registry: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.fixture(scope="module")
def node(modules: Path) -> Iterator[Any]:
    """Plays a scenario of the client against a gateway; all of them in one process."""
    kept = {name: value for name, value in os.environ.items() if name not in FORBIDDEN}
    with subprocess.Popen(
        ["node", CLIENT], env={**kept, "NODE_PATH": str(modules)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        asks, tells = process.stdin, process.stdout
        assert asks is not None
        assert tells is not None

        async def play(gateway: Running, scenario: str) -> Any:
            asks.write(json.dumps([f"{gateway.url}/v1", scenario]) + "\n")
            asks.flush()
            return json.loads(await asyncio.to_thread(tells.readline))

        yield play


@pytest.fixture
def checked(modules: Path, tmp_path: Path) -> Any:
    """What the compiler has to say against a value's being of one of the client's types."""
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')

    def check(value: Any, kind: str) -> str:
        name = kind.removesuffix("[]")
        (tmp_path / "told.ts").write_text(
            f'import type {{ {name} }} from "openai/resources/chat/completions";\n'
            f"export const told: {kind} = {json.dumps(value)};\n"
        )
        options = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext")
        command = [modules / ".bin" / "tsc", *options, "told.ts"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout

    return check


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


def said(choice: dict[str, Any]) -> bytes:
    event = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %s\n\n" % json.dumps({**event, "choices": [{"index": 0, **choice}]}).encode()


ENGINES = {
    "a role in every event": {"finish": "length"},
    "no role at all, no reason but at the end": {
        "raw": True,
        "kind": "text/event-stream",
        "body": b"".join(said({"delta": {"content": f"word{n} "}}) for n in range(5))
        + said({"delta": {}, "finish_reason": "length"})
        + b"data: [DONE]\n\n",
    },
}
"""How engines differ in what the client's types leave no room for."""


@pytest.mark.parametrize("plan", ENGINES.values(), ids=ENGINES)
async def test_its_helper_for_streams(
    engine_with: Any, gateway_for: Any, node: Any, plan: Any
) -> None:
    """It has no message without a role, and no choice without a reason to have ended."""
    told = (await node(await gateway_for(await engine_with(**plan)), "helper"))["result"]
    choice = told["whole"]["choices"][0]
    assert told["text"] == choice["message"]["content"] == WORDS
    assert (choice["message"]["role"], choice["finish_reason"]) == ("assistant", "length")


@pytest.mark.parametrize("plan", ENGINES.values(), ids=ENGINES)
async def test_every_event_is_of_its_types(
    engine_with: Any, gateway_for: Any, node: Any, checked: Any, plan: Any
) -> None:
    chunks = (await node(await gateway_for(await engine_with(**plan)), "stream"))["result"]
    assert chunks[-1]["usage"].pop("estimated")  # of our own: these engines do not count
    assert checked(chunks, "ChatCompletionChunk[]") == ""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [choice["delta"].get("role") for choice in choices] == ["assistant"] + [None] * 5
    assert [choice["finish_reason"] for choice in choices] == [None] * 5 + ["length"]
    del choices[2]["finish_reason"]
    choices[3]["finish_reason"] = "eos"
    assert checked(chunks, "ChatCompletionChunk[]").count("error TS") == 2


async def test_a_whole_answer_is_of_its_type(
    engine: EngineStub, gateway_for: Any, node: Any, checked: Any
) -> None:
    answer = (await node(await gateway_for(engine), "chat"))["result"]
    answer.pop("request_id")  # of its head
    assert checked(answer, "ChatCompletion") == ""


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
