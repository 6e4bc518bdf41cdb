"""Declarations that change while requests go on, and the work that watches them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistants import HanlinError, load_house
from serve import declared
from serve.declared import Declared
from serve.elsewhere import with_upstreams
from serve.gateway import background
from serve.gateway.routes import REFUSED
from serve.gateway.settings import GatewaySettings
from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running, declare, house_of, listening

YAML = """\
name: {name}
title: t
description: d
model: {{base: hanlin-mini}}
upstreams: [{url}]
"""


@pytest.fixture
async def start(stack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(declared, "LOOK_SECONDS", 0.02)

    async def running() -> Running:
        house = load_house(tmp_path)
        following = Declared(house.folder, lambda: load_house(tmp_path))
        settings = GatewaySettings(port=0, drain_grace_seconds=0, drain_seconds=1)
        started: Running = await stack.enter_async_context(
            listening(settings, house, declared=following)
        )
        return started

    return running


def write(folder: Path, engine: EngineStub, *, name: str = "wishes", more: str = "") -> None:
    text = YAML.format(name=name, url=engine.url) + more
    (folder / f"{name}.yaml").write_text(text)


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def names(http: httpx.AsyncClient) -> list[str]:
    return [card["id"] for card in (await http.get("/v1/models")).json()["data"]]


def body(model: str = "wishes", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "x"}], **more}


async def test_a_change_is_taken_over_without_dropping_a_stream(
    start: Any, tmp_path: Path, engine_with: Any
) -> None:
    old, new = await engine_with(tokens=20, tokens_per_second=20), await engine_with()
    write(tmp_path, old)
    gateway = await start()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        async with http.stream("POST", "/v1/chat/completions", json=body(stream=True)) as stream:
            write(tmp_path, new, more="system: be brief\n")
            write(tmp_path, new, name="poetry")

            async def taken_over() -> bool:
                return await names(http) == ["poetry", "wishes"]

            await until(taken_over)
            assert "word19" in "".join([piece async for piece in stream.aiter_text()])
        reply = await http.post("/v1/chat/completions", json=body())
        assert reply.status_code == 200
        assert new.requests[-1].json["messages"][0] == {"role": "system", "content": "be brief"}
        assert len(old.requests) == 1
        (tmp_path / "wishes.yaml").unlink()

        async def gone() -> bool:
            return await names(http) == ["poetry"]

        await until(gone)
        assert (await http.post("/v1/chat/completions", json=body())).status_code == 404
        assert (await http.post("/v1/chat/completions", json=body("poetry"))).status_code == 200


async def test_more_room_lets_in_who_waits(start: Any, tmp_path: Path, engine_with: Any) -> None:
    engine = await engine_with(hang="head", times=1)
    write(tmp_path, engine, more="limits: {concurrency: 1, queue: 1}\n")
    gateway = await start()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as http:
        first = asyncio.create_task(http.post("/v1/chat/completions", json=body()))
        await engine.until(lambda e: e.open == 1)
        second = asyncio.create_task(http.post("/v1/chat/completions", json=body()))
        write(tmp_path, engine, more="limits: {concurrency: 2}\n")
        assert (await second).status_code == 200
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_a_broken_change_is_refused_and_said(
    start: Any, tmp_path: Path, engine: EngineStub, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, engine)
    gateway = await start()
    with caplog.at_level(logging.INFO, "hanlin.declared"):
        write(tmp_path, engine, more="limits: {concurency: 1}\n")
        async with httpx.AsyncClient(base_url=gateway.url) as http:

            async def refused() -> bool:
                return "concurency" in caplog.text

            await until(refused)
            assert "are ignored: " in caplog.text
            told = (await http.get("/ready")).json()
            assert told["problem"] == REFUSED
            assert "concurency" not in told["problem"]  # everybody may ask
            assert (await http.post("/v1/chat/completions", json=body())).status_code == 200
            write(tmp_path, engine, name="poetry")
            write(tmp_path, engine)

            async def repaired() -> bool:
                return await names(http) == ["poetry", "wishes"]

            await until(repaired)
            assert (await http.get("/ready")).json()["problem"] is None
    assert "The declarations were read anew: poetry, wishes." in caplog.text


async def test_it_may_be_asked_to_read_though_nothing_changed(
    tmp_path: Path, engine: EngineStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared, "LOOK_SECONDS", 0.001)
    write(tmp_path, engine)
    following, taken = Declared(tmp_path, lambda: load_house(tmp_path)), asyncio.Event()
    task = asyncio.create_task(following.follow(lambda _: taken.set()))
    await asyncio.sleep(0.05)
    assert not taken.is_set()
    following.ask()
    async with asyncio.timeout(60):
        await taken.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_work_that_ends_is_noticed_and_begun_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "PAUSE_SECONDS", 0)
    begun = 0
    third = asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise RuntimeError("a mistake of ours")
        if begun == 3:
            third.set()
            await asyncio.Event().wait()

    async with background.running("Following engines", work), asyncio.timeout(60):
        await third.wait()
    assert caplog.text.count("Following engines ended, and begins again") == 2
    assert "a mistake of ours" in caplog.text
    assert begun == 3


def test_the_environment_names_engines_elsewhere() -> None:
    house = house_of(declare("wishes", upstreams=["http://a"]), declare("my-poet.2"))
    given = {
        "HANLIN_UPSTREAMS_WISHES": "http://b, https://c:8443/v1,",
        "HANLIN_UPSTREAMS_MY_POET_2": "http://d",
        "PATH": "/bin",
    }
    changed = with_upstreams(house, given)
    assert changed.get("wishes").upstreams == ("http://b", "https://c:8443/v1")
    assert changed.get("my-poet.2").upstreams == ("http://d",)
    assert house.get("wishes").upstreams == ("http://a",)
    with pytest.raises(HanlinError, match=r"HANLIN_UPSTREAMS_WISHS: .*wishes"):
        with_upstreams(house, {"HANLIN_UPSTREAMS_WISHS": "http://a"})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gpu:1", "is not an http:// or https:// base URL"),
        ("http:gpu", "is not an http:// or https:// base URL"),
        ("http://", "names no host"),
        ("http://:80", "names no host"),
        ("https:///v1", "names no host"),
        ("http://gpu:0", "names no port"),
        ("http://gpu:99999", "is not a URL: Port out of range"),
        ("http://[::1", "is not a URL: Invalid IPv6"),
        ("http://gpu/v1?key=1", "is more than a base URL"),
        ("http://g pu", "is more than a base URL"),
    ],
)
def test_what_no_engine_can_be_asked_at_is_said_so(url: str, said: str) -> None:
    house = house_of(declare("wishes"))
    with pytest.raises(HanlinError) as caught:
        with_upstreams(house, {"HANLIN_UPSTREAMS_WISHES": f"http://a, {url}"})
    assert str(caught.value).startswith(f"HANLIN_UPSTREAMS_WISHES: '{url}' {said}")
    with pytest.raises(ValueError, match=f"'{re.escape(url)}' {said}"):
        declare("wishes", upstreams=[url])
