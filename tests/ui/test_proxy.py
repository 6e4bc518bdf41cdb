"""A page behind a proxy that signs people in: the whole of it, as seen through it and past it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.ports import free_port
from tests.ui.conftest import PageProcess, page_of, serving
from tests.ui.gateway_stub import PLAIN, GatewayStub
from tests.ui.visitor import DESK, visiting

HEADER = "X-Forwarded-User"


@dataclass(frozen=True, slots=True)
class Behind:
    """A page that believes the header, from this machine."""

    page: PageProcess
    feedback: Path


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    feedback = tmp_path_factory.mktemp("kept") / "feedback.jsonl"
    options = (f"--user-header={HEADER}", "--proxies=127.0.0.1", f"--feedback={feedback}")
    with page_of(free_port(), *options) as page:
        yield Behind(page, feedback)


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_who_comes_through_it_talks_and_is_named_in_the_feedback(
    behind: Behind, browser: Browser
) -> None:
    look = {**DESK, "extra_http_headers": {HEADER: "ada@example.org"}}
    async with (
        serving(GatewayStub(), behind.page.gateway_port),
        visiting(browser, behind.page.url, look) as seen,
    ):
        page = seen.page
        await seen.go("?assistant=sui")
        await seen.send("你是谁？")
        await seen.whole(PLAIN)
        await expect(page.locator(".hanlin-out")).to_have_count(0)  # the way out is the proxy's
        await seen.button("赞").click()
        await page.locator("#word input, #word textarea").fill("好")
        await page.locator("#word-send").click()
        await expect(page.locator("#why")).to_be_hidden()
        await page.get_by_role("link", name="状态", exact=True).click()
        await expect(page.locator(".hanlin-table")).to_be_visible()
        kept = [json.loads(line) for line in behind.feedback.read_text("utf-8").splitlines()]
        assert [(line["verdict"], line["by"]) for line in kept] == [("up", "ada@example.org")] * 2
        await page.get_by_role("link", name="对话", exact=True).click()
        await seen.reload()
        await seen.whole(PLAIN)
        await page.context.set_extra_http_headers({HEADER: "bob@example.org"})
        await seen.reload()  # the proxy has signed in somebody else
        await expect(page.locator("#chat .example").first).to_be_visible()
        await expect(seen.answer).to_have_count(0)


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_who_comes_past_it_reads_one_sentence(behind: Behind, browser: Browser) -> None:
    async with visiting(browser, behind.page.url, DESK) as seen:
        seen.meant.append("status of 403")  # the browser itself tells its console of it
        answer = await seen.page.goto(behind.page.url)
        assert answer
        assert answer.status == 403
        await expect(seen.page.locator("body")).to_have_text("请从登录入口进入这一页。")


async def test_without_the_name_there_is_neither_page_nor_file_nor_interface(
    behind: Behind,
) -> None:
    paths = (
        *("", "config", "theme.css", "gradio_api/info", "gradio_api/startup-events", "logout"),
        *("gradio_api/heartbeat/x", "gradio_api/queue/data?session_hash=x"),
    )
    async with httpx.AsyncClient(base_url=behind.page.url) as client:
        front = (await client.get("/", headers={HEADER: "ada"})).text
        (script,) = {part.split('"')[0] for part in front.split('src="./')[1:] if "assets/" in part}
        for path in (*paths, script):
            assert (await client.get(f"/{path}")).status_code == 403, path
            assert (await client.get(f"/{path}", headers={HEADER: ""})).status_code == 403, path
        assert (await client.get(f"/{script}", headers={HEADER: "ada"})).status_code == 200
        asked = {"fn_index": 0, "data": [], "session_hash": "x"}
        for path in ("gradio_api/queue/join", "gradio_api/upload", "login"):
            assert (await client.post(f"/{path}", json=asked)).status_code == 403, path
