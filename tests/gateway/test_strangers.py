"""A gateway without keys works for programs and for pages that were let in, and for no others.

What a real browser makes of it is in `test_browser`.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serve.gateway.admission.keys import KeySources
from serve.gateway.errors import StrangerError
from serve.gateway.strangers import Strangers
from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running

CHATS = "/v1/chat/completions"
BODY: Any = {"model": "wishes", "messages": [{"role": "user", "content": "x"}]}
PAGE = "https://page.example.org"
HERE = b"127.0.0.1:8000"


def let_in(*allowed: str, local: bool = True, asks: bool = True, **given: bytes) -> bool:
    named = {"host": HERE, **{name.replace("_", "-"): value for name, value in given.items()}}
    headers = [(name.encode(), value) for name, value in named.items()]
    try:
        Strangers(allowed, local=local).keep_out(headers, asks=asks)
    except StrangerError:
        return False
    return True


@pytest.mark.parametrize(
    ("given", "lets"),
    [
        ({}, True),  # a program
        ({"origin": b"https://evil.example"}, False),
        ({"origin": b"https://evil.example", "sec_fetch_site": b"cross-site"}, False),
        ({"origin": b"https://evil.example", "sec_fetch_site": b"same-site"}, False),
        ({"origin": b"null"}, False),
        ({"sec_fetch_site": b"cross-site"}, False),
        ({"origin": b"https://page.example.org", "sec_fetch_site": b"cross-site"}, True),
        ({"origin": b"https://page.example.org:8443"}, False),
        ({"origin": b"http://page.example.org"}, False),
        ({"origin": b"http://127.0.0.1:8000"}, True),  # its own
        ({"origin": b"https://x.example", "sec_fetch_site": b"same-origin"}, True),
        ({"origin": b"https://x.example", "sec_fetch_site": b"none"}, True),
        ({"origin": b"http://localhost:3000", "sec_fetch_site": b"same-site"}, True),
        ({"origin": b"http://[::1]:3000"}, True),
        ({"origin": b"http://127.0.0.1.evil.example"}, False),
        ({"origin": b"http://localhost.evil.example"}, False),
        ({"origin": b"https://tauri.localhost"}, True),
        ({"origin": b"app://obsidian.md", "sec_fetch_site": b"cross-site"}, True),
        ({"origin": b"http://[::1", "sec_fetch_site": b"cross-site"}, False),
        ({"origin": b"\xff://"}, True),  # no browser writes that
        ({"origin": b"https://\xff"}, False),
    ],
)
def test_who_may_have_it_asked(given: dict[str, bytes], lets: bool) -> None:
    assert let_in(PAGE, **given) is lets
    assert let_in(PAGE, local=False, **given) is lets
    assert let_in(PAGE, asks=False, **given)  # whose answer a browser keeps to itself


@pytest.mark.parametrize(
    ("host", "lets"),
    [
        (b"localhost:8000", True),
        (b"LocalHost.", True),
        (b"[::1]:8000", True),
        (b"192.168.1.7", True),
        (b"gateway:8000", True),
        (b"mine.local", True),
        (b"host.docker.internal:8000", True),
        (b"page.example.org", True),  # whose pages are let in
        (b"", True),
        (b"evil.example:8000", False),
        (b"evil.example", False),
        (b"127.0.0.1.evil.example:8000", False),
        (b"local.evil.example", False),
        (b"[::1.evil", False),
    ],
)
def test_what_this_machine_is_called(host: bytes, lets: bool) -> None:
    assert let_in(PAGE, host=host) is lets
    assert let_in(PAGE, host=host, asks=False) is lets
    assert let_in(PAGE, host=host, local=False)
    # A page that had its name come to mean this machine is of the same origin.
    assert let_in(PAGE, host=host, origin=b"http://" + host) is lets or not host


async def asked(gateway: Running, method: str, path: str, **headers: str) -> httpx.Response:
    """As a page asks that would not be asked about beforehand."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        return await http.request(
            method,
            path,
            headers={"content-type": "text/plain", **named},
            content=json.dumps(BODY).encode() if method == "POST" else None,
        )


@pytest.mark.parametrize(
    "path",
    [CHATS, "/v1/completions", "/v1/responses", "/v1/messages", "/v1/assistants/wishes/prompt"],
)
async def test_a_page_of_another_site_has_nothing_made(
    engine: EngineStub, gateway_for: Any, path: str
) -> None:
    gateway = await gateway_for(engine)
    answer = await asked(gateway, "POST", path, origin=PAGE, sec_fetch_site="cross-site")
    assert (answer.status_code, engine.requests) == (403, [])
    told = answer.json()["error"]["message"]
    assert all(word in told for word in (f"'{PAGE}'", "--cors-origin", "--keys"))
    if path == CHATS:
        assert answer.json()["error"]["code"] == "origin_not_allowed"
        assert "x-request-id" in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", CHATS), ("GET", "/v1/models"), ("GET", "/v1/models/wishes"), ("GET", "/metrics"),
     ("GET", "/ready"), ("GET", "/docs")],
)  # fmt: skip
async def test_nobody_reads_by_a_name_that_came_to_mean_this_machine(
    engine: EngineStub, gateway_for: Any, method: str, path: str
) -> None:
    gateway = await gateway_for(engine)
    refused = await asked(gateway, method, path, host="evil.example:8000")
    assert (refused.status_code, engine.requests) == (403, [])
    assert "'evil.example'" in refused.json()["error"]["message"]
    taken = await asked(gateway, method, path, host="localhost:8000")
    assert taken.status_code == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"cors_origins": (PAGE,)},
        {"cors_origins": ("*",)},
        {"keys": KeySources(plain=("hl-a",))},
    ],
)
async def test_who_was_let_in_is(
    engine: EngineStub, gateway_for: Any, settings: dict[str, Any]
) -> None:
    gateway = await gateway_for(engine, settings=settings)
    headers = {"authorization": "Bearer hl-a", "origin": PAGE, "sec_fetch_site": "cross-site"}
    answer = await asked(gateway, "POST", CHATS, **headers)
    named = await asked(
        gateway, "POST", CHATS, authorization="Bearer hl-a", host="page.example.org"
    )
    assert (answer.status_code, named.status_code) == (200, 200)


async def test_what_curl_sends_by_itself_is_no_page(engine: EngineStub, gateway_for: Any) -> None:
    gateway = await gateway_for(engine)
    form = "application/x-www-form-urlencoded"
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        body = json.dumps(BODY).encode()
        answer = await http.post(CHATS, content=body, headers={"content-type": form})
    assert answer.status_code == 200


async def test_a_gateway_that_others_reach_is_called_what_they_like(
    engine: EngineStub, gateway_for: Any
) -> None:
    gateway = await gateway_for(engine, settings={"host": "0.0.0.0"})
    named = await asked(gateway, "POST", CHATS, host="ai.example.org")
    page = await asked(gateway, "POST", CHATS, host="ai.example.org", origin=PAGE)
    assert (named.status_code, page.status_code, len(engine.requests)) == (200, 403, 1)
