"""Pages of other origins may read every kind of answer where they are named, and else none.

What a real browser makes of it is in `test_browser`.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistants import HanlinError
from hanlin.__main__ import main
from serve.gateway import client
from serve.gateway.admission.keys import KeySources
from serve.gateway.origins import origins
from serve.gateway.settings import GatewaySettings
from tests.engine_stub import EngineStub, Plan
from tests.gateway.conftest import Running
from tests.ports import free_port

CHATS = "/v1/chat/completions"
PAGE, OTHER = "https://page.example.org", "https://other.example.org"
BODY: Any = {"model": "wishes", "messages": [{"role": "user", "content": "x"}]}
ASKS = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}
ALLOWED = "access-control-allow-origin"


@pytest.fixture
def open_to(engine: EngineStub, gateway_for: Any) -> Any:
    """Starts a gateway with a key, and pages of these origins allowed."""

    async def start(*allowed: str, **settings: Any) -> Running:
        given = {"keys": KeySources(plain=("hl-a",)), "cors_origins": allowed, **settings}
        running: Running = await gateway_for(engine, settings=given)
        return running

    return start


async def asked(gateway: Running, method: str, path: str, **given: Any) -> httpx.Response:
    headers = {"authorization": "Bearer hl-a", "origin": PAGE, **given.pop("headers", {})}
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        return await http.request(method, path, headers=headers, **given)


@pytest.mark.parametrize("path", [CHATS, "/v1/models", "/nowhere"])
async def test_what_a_browser_asks_beforehand(open_to: Any, path: str) -> None:
    gateway = await open_to(PAGE, "https://second.example.org")
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        answer = await http.options(path, headers=ASKS)
        refused = await http.options(path, headers={**ASKS, "origin": OTHER})
    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == ASKS["access-control-request-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert "origin" in answer.headers["vary"].lower()
    assert (refused.status_code, refused.headers.get(ALLOWED)) == (400, None)


@pytest.mark.parametrize(
    ("method", "path", "given", "status"),
    [
        ("POST", CHATS, {"json": BODY}, 200),
        ("POST", CHATS, {"json": {**BODY, "stream": True}}, 200),
        ("POST", "/v1/messages", {"json": BODY}, 200),
        ("GET", "/v1/models", {}, 200),
        ("GET", "/ready", {}, 200),
        ("POST", CHATS, {"json": BODY, "headers": {"authorization": ""}}, 401),
        ("GET", "/v1/models", {"headers": {"authorization": ""}}, 401),
        ("POST", CHATS, {"json": {**BODY, "model": "wish"}}, 404),
        ("GET", "/nowhere", {}, 404),
        ("DELETE", "/v1/models", {}, 405),
        ("OPTIONS", CHATS, {}, 405),
        ("POST", CHATS, {"content": b"x" * 2000}, 413),
        ("POST", CHATS, {"json": BODY, "headers": {"content-encoding": "gzip"}}, 415),
    ],
)
async def test_every_answer_may_be_read_by_the_page_that_is_named_and_no_other(
    open_to: Any, method: str, path: str, given: Any, status: int
) -> None:
    gateway = await open_to(PAGE, max_body_bytes=1000)
    answer = await asked(gateway, method, path, **given)
    assert (answer.status_code, answer.headers[ALLOWED]) == (status, PAGE)
    assert answer.headers["vary"].lower() == "origin"
    readable = answer.headers["access-control-expose-headers"].lower().split(", ")
    assert {"x-request-id", "retry-after", "x-ratelimit-remaining-tokens"} <= set(readable)
    headers = {**given.pop("headers", {}), "origin": OTHER}
    other = await asked(gateway, method, path, **given, headers=headers)
    assert (other.status_code, other.headers.get(ALLOWED)) == (status, None)
    assert other.headers["vary"].lower() == "origin"


async def test_a_failing_engine_too(engine: EngineStub, open_to: Any) -> None:
    gateway = await open_to(PAGE)
    for plan, status in ((Plan(status=500), 502), (Plan(status=429), 429)):
        engine.plan = plan
        answer = await asked(gateway, "POST", CHATS, json=BODY)
        assert (answer.status_code, answer.headers[ALLOWED]) == (status, PAGE)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b"408"),
        (b"content-length: 100\r\n\r\n", b"408"),
        (b"x: " + b"x" * (client.LONGEST_HEAD + 1), b"431"),
        (b"content-length: many\r\n\r\n", b"400"),
    ],
)
@pytest.mark.parametrize(("origin", "told"), [(PAGE, 1), (OTHER, 0)])
async def test_what_is_refused_before_it_is_a_request(
    open_to: Any,
    monkeypatch: pytest.MonkeyPatch,
    sent: bytes,
    status: bytes,
    origin: str,
    told: int,
) -> None:
    monkeypatch.setattr(client, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(client, "BODY_SECONDS", 0.2)
    gateway = await open_to(PAGE)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST {CHATS} HTTP/1.1\r\nhost: x\r\nx-api-key: hl-a\r\nOrigin: {origin}\r\n".encode()
    writer.write(head + b"x-other: x\r\n" + sent)
    async with asyncio.timeout(10):
        head = (await reader.read()).partition(b"\r\n\r\n")[0]
    writer.close()
    assert head.split()[1] == status
    assert head.lower().count(f"\r\n{ALLOWED}: {PAGE}".encode()) == told


async def test_anybody_where_all_are_allowed(open_to: Any) -> None:
    gateway = await open_to("*")
    answer = await asked(gateway, "POST", CHATS, json=BODY)
    assert answer.headers[ALLOWED] == "*"


async def test_nobody_unless_somebody_is(open_to: Any) -> None:
    gateway = await open_to()
    answer = await asked(gateway, "POST", CHATS, json=BODY)
    assert answer.status_code == 200
    before = await asked(gateway, "OPTIONS", CHATS, headers=ASKS)
    assert before.status_code == 405
    for told in (answer, before):
        assert not [name for name in told.headers if name in ("vary", ALLOWED)]


async def test_a_preflight_reaches_no_engine_and_no_count(engine: EngineStub, open_to: Any) -> None:
    gateway = await open_to(PAGE)
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        await http.options(CHATS, headers=ASKS)
        told = (await http.get("/metrics")).text
    assert engine.requests == []
    assert "hanlin_requests_total{" not in told


@pytest.mark.parametrize("by_variable", [False, True])
def test_the_command_takes_them_as_options_and_as_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    (tmp_path / "x.yaml").write_text(
        "name: x\ntitle: X\ndescription: d\nmodel: {base: hanlin-mini}\nupstreams: [http://x]\n"
    )
    taken: list[GatewaySettings] = []
    monkeypatch.setattr("hanlin.parts.end_well", lambda: None)
    monkeypatch.setattr("hanlin.parts._log", lambda: None)
    monkeypatch.setattr("serve.gateway.app.run", lambda settings, _: taken.append(settings))
    options = [f"--cors-origin={PAGE}", f"--cors-origin={OTHER}, http://localhost:3000"]
    if by_variable:
        monkeypatch.setenv("HANLIN_CORS_ORIGINS", f"{PAGE},{OTHER},http://localhost:3000")
        options = []
    assert main(["gateway", f"--assistants={tmp_path}", f"--port={free_port()}", *options]) == 0
    assert taken[0].cors_origins == (PAGE, OTHER, "http://localhost:3000")


def test_origins_as_people_write_them() -> None:
    given = ["https://Page.example.org/, http://localhost:3000", "https://例子.cn:443", "", "*"]
    assert origins(given) == (
        "https://page.example.org",
        "http://localhost:3000",
        "https://xn--fsqu00a.cn",
        "*",
    )
    assert origins(["chrome-extension://abcdef", "http://[::1]:80"]) == (
        "chrome-extension://abcdef",
        "http://[::1]",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("page.example.org", "no origin"),
        ("localhost:3000", "no origin"),
        ("null", "no origin"),
        ("file:///page.html", "no origin"),
        ("https://*.example.org", "no origin"),
        ("https://page.example.org/app", "wants https://page.example.org."),
        ("https://me@page.example.org", "wants https://page.example.org."),
    ],
)
def test_what_is_no_origin_is_said_so(text: str, said: str) -> None:
    with pytest.raises(HanlinError, match=rf"'{re.escape(text)}' .*{re.escape(said)}"):
        origins([text])
