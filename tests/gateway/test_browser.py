"""Pages of other origins ask the gateway by themselves, in a real browser, if theirs are named; and
where nobody is, they have nothing made either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

from serve.gateway.admission.keys import KeySources
from tests.engine_stub import EngineStub
from tests.ui.conftest import CHROMIUM, QUIET

pytestmark = pytest.mark.browser

SITE = "evil.example"
"""A name that means this machine, as any name may that somebody has given out."""

HTML = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)
ASK = """async ([url, key, stream]) => {
    const messages = [{role: "user", content: "x"}];
    const headers = {"authorization": `Bearer ${key}`, "content-type": "application/json"};
    const body = JSON.stringify({model: "wishes", messages, stream});
    const answer = await fetch(url, {method: "POST", headers, body});
    let text = "";
    for await (const part of answer.body.pipeThrough(new TextDecoderStream())) text += part;
    return [answer.status, text, Object.fromEntries(answer.headers)];
}"""


@pytest.fixture
async def pages() -> AsyncIterator[int]:
    """The port of a server of empty pages, by each of the names of this machine."""

    async def show(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HTML)
        writer.close()

    async with await asyncio.start_server(show, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest_asyncio.fixture
async def page() -> AsyncIterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*QUIET, f"--host-resolver-rules=MAP {SITE} 127.0.0.1"]
        )
        yield await browser.new_page()
        await browser.close()


async def test_the_page_that_is_named_reads_every_answer_and_no_other_does(
    engine: EngineStub, gateway_for: Any, pages: int, page: Page
) -> None:
    allowed, other = f"http://127.0.0.1:{pages}", f"http://localhost:{pages}"
    keys = KeySources(plain=("hl-a",))
    gateway = await gateway_for(engine, settings={"keys": keys, "cors_origins": (allowed,)})
    url = f"{gateway.url}/v1/chat/completions"
    await page.goto(allowed)
    status, text, headers = await page.evaluate(ASK, [url, "hl-a", False])
    assert (status, '"word0 word1' in text) == (200, True)
    assert len(headers["x-request-id"]) == 32
    status, text, headers = await page.evaluate(ASK, [url, "hl-a", True])
    assert (status, text.count("word")) == (200, 5)
    assert text.endswith("data: [DONE]\n\n")
    status, text, headers = await page.evaluate(ASK, [url, "hl-b", False])
    assert (status, "invalid_api_key" in text) == (401, True)
    assert len(engine.requests) == 2
    await page.goto(other)
    refusal = await page.evaluate(f"args => ({ASK})(args).catch(String)", [url, "hl-a", False])
    assert refusal == "TypeError: Failed to fetch"
    assert len(engine.requests) == 2


LOOK_LIKE_A_FORM = """async ([url, mode]) => {
    const body = JSON.stringify({model: "wishes", messages: [{role: "user", content: "x"}]});
    const answer = await fetch(url, {method: "POST", mode, body});
    return [answer.type, answer.status];
}"""


async def test_a_gateway_without_keys_works_for_its_own_pages_only(
    engine: EngineStub, gateway_for: Any, pages: int, page: Page
) -> None:
    gateway = await gateway_for(engine)
    path = "/v1/chat/completions"
    await page.goto(f"http://{SITE}:{pages}")
    told = await page.evaluate(LOOK_LIKE_A_FORM, [f"{gateway.url}{path}", "no-cors"])
    assert (told, engine.requests) == (["opaque", 0], [])
    for shown in ("/docs", "/v1/models"):
        answer = await page.goto(f"http://{SITE}:{gateway.port}{shown}")
        assert answer is not None
        assert answer.status == 403
    told = await page.evaluate(LOOK_LIKE_A_FORM, [path, "same-origin"])
    assert (told, engine.requests) == (["basic", 403], [])
    await page.goto(f"{gateway.url}/docs")
    told = await page.evaluate(LOOK_LIKE_A_FORM, [path, "same-origin"])
    assert (told, len(engine.requests)) == (["basic", 200], 1)
