"""What the access log says of a request: enough to find out why, and never a key or a prompt."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from serve.gateway.admission.keys import KeySources
from serve.gateway.record.access_log import JsonLines
from tests.engine_stub import EngineStub, Plan

USER = [{"role": "user", "content": "姐姐生日"}]
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Screen:
    """A standard error that a test can read."""

    def __init__(self, *, terminal: bool) -> None:
        self.buffer = io.BytesIO()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def lines(self) -> list[str]:
        return self.buffer.getvalue().decode().splitlines()


Show = Callable[[Any], Any]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Makes something the standard error of the gateway, and of nobody else."""

    def to(screen: Any) -> Any:
        monkeypatch.setattr("serve.gateway.record.access_log.sys", SimpleNamespace(stderr=screen))
        return screen

    return to


@pytest.fixture
def stderr(show: Show) -> Screen:
    screen: Screen = show(Screen(terminal=False))
    return screen


async def ask(url: str, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url) as http:
        asked = {"model": "wishes", "messages": USER, **body}
        return await http.post("/v1/chat/completions", json=asked, headers=headers or {})


async def test_a_line_is_one_object_and_says_how_it_went(
    engine: EngineStub, gateway_for: Any, stderr: Screen
) -> None:
    gateway = await gateway_for(engine)
    await ask(gateway.url, headers={"x-request-id": "r7", "traceparent": CALLER})
    (line,) = map(json.loads, stderr.lines)
    assert line.pop("time").endswith("Z")
    assert line.pop("ms") > 0
    assert line == {
        "request_id": "r7",
        "assistant": "wishes",
        "surface": "chat",
        "status": 200,
        "tokens_in": 3,
        "tokens_out": 5,
        "replica": engine.url,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }


async def test_a_stream_has_a_first_token(
    engine: EngineStub, gateway_for: Any, stderr: Screen
) -> None:
    gateway = await gateway_for(engine)
    await ask(gateway.url, stream=True)
    (line,) = map(json.loads, stderr.lines)
    assert 0 < line["ttft_ms"] <= line["ms"]


async def test_what_failed_says_why_and_how_often_it_was_tried(
    engine_with: Any, gateway_for: Any, stderr: Screen
) -> None:
    engine = await engine_with(die="head", times=1)
    gateway = await gateway_for(engine)
    await ask(gateway.url)
    engine.plan = Plan(status=500, body=b"no")
    await ask(gateway.url)
    await ask(gateway.url, model="nobody")
    tried, failed, unknown = map(json.loads, stderr.lines)
    assert (tried["status"], tried["retries"], tried["replica"]) == (200, 1, engine.url)
    assert (failed["status"], failed["error"]) == (502, "engine_failed")
    assert (unknown["status"], unknown["error"]) == (404, "model_not_found")
    assert unknown["assistant"] == "unknown"


async def test_neither_prompts_nor_keys_are_written(
    engine: EngineStub, gateway_for: Any, stderr: Screen, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await gateway_for(engine, settings={"keys": KeySources(plain=("hl-secret",))})
    with caplog.at_level(logging.DEBUG):
        for key in ("hl-secret", "hl-wrong"):
            await ask(gateway.url, headers={"authorization": f"Bearer {key}"})
    known, wrong = stderr.lines
    assert (json.loads(known)["key"], json.loads(wrong)["error"]) == ("env-1", "invalid_api_key")
    for text in (known, wrong, caplog.text):
        assert "hl-" not in text
        assert "姐姐" not in text


async def test_prompts_are_written_where_that_is_asked_for(
    engine: EngineStub, gateway_for: Any, stderr: Screen
) -> None:
    gateway = await gateway_for(engine, settings={"log_prompts": True})
    await ask(gateway.url)
    (line,) = map(json.loads, stderr.lines)
    assert json.loads(line["request"])["messages"][-1]["content"] == "姐姐生日"


async def test_a_terminal_is_told_in_words(
    engine: EngineStub, gateway_for: Any, show: Show
) -> None:
    screen: Screen = show(Screen(terminal=True))
    gateway = await gateway_for(engine)
    await ask(gateway.url, headers={"x-request-id": "r7"})
    (line,) = screen.lines
    assert " 200 wishes chat " in line
    assert line.endswith(", 3+5 tokens r7")


async def test_a_log_that_cannot_be_written_fails_no_request(
    engine: EngineStub, gateway_for: Any, show: Show
) -> None:
    class Full(io.RawIOBase):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    show(Screen(terminal=False)).buffer = Full()
    gateway = await gateway_for(engine)
    assert (await ask(gateway.url)).status_code == 200


def test_other_messages_are_objects_too() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        exc = (type(error), error, error.__traceback__)
    record = logging.LogRecord("hanlin.gateway", logging.ERROR, "f", 1, "request %s", ("r7",), exc)
    line = json.loads(JsonLines().format(record))
    assert (line["level"], line["message"]) == ("error", "request r7")
    assert line["traceback"].endswith("ValueError: why")
