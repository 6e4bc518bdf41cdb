"""The gateway before the real embedded engine, run by the real engine host."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from assistants import House, load_house
from tests.gateway.conftest import Running, gateway_before

pytestmark = [pytest.mark.chain, pytest.mark.asyncio(loop_scope="module")]

DECLARATION = """
name: wishes
aliases: [tianji]
title: w
description: w
system: 你现在是一个送祝福大师
sampling: {temperature: 0, max_tokens: 16, repetition_penalty: 1.1}
limits: {max_tokens: 400}
model: {base: hanlin-mini}
"""
HOST = """
import sys
from pathlib import Path
from serve.engines.app import HostSettings, run
folder, port = Path(sys.argv[1]), int(sys.argv[2])
run(HostSettings(assistants=folder / "assistants", workspaces=folder / "work",
                 logs=folder / "logs", engine="llamacpp", port=port))
"""
USER: list[Any] = [{"role": "user", "content": "祝姐姐生日快乐"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A house of one assistant on the embedded base, converted."""
    from convert.progress import Unwatched
    from convert.run import build

    folder = tmp_path_factory.mktemp("house")
    (folder / "assistants").mkdir()
    (folder / "assistants" / "wishes.yaml").write_text(DECLARATION, encoding="utf-8")
    house = load_house(folder / "assistants")
    work = folder / "work"
    build(house, engine="llamacpp", workspaces=work, force=False, progress=Unwatched())
    return folder


@pytest.fixture(scope="module")
def house(folder: Path) -> House:
    return load_house(folder / "assistants")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(folder: Path, house: House) -> AsyncIterator[Running]:
    from serve.ports import free_port

    port = free_port()
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", HOST, str(folder), str(port))
    try:
        async with gateway_before(house, engines=f"http://127.0.0.1:{port}") as running:
            await until_ready(running)
            yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            host.send_signal(signal.SIGTERM)
        await host.wait()


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway: Running) -> AsyncIterator[AsyncOpenAI]:
    url = f"{gateway.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


async def until_ready(gateway: Running) -> None:
    async with asyncio.timeout(60), httpx.AsyncClient() as http:
        while (await http.get(f"{gateway.url}/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def replica(gateway: Running) -> Any:
    completion: Any = gateway.app.hot["/v1/chat/completions"]
    return completion._deliverer._replicas.of("wishes")[0]


async def test_a_whole_answer_and_a_stream_say_the_same(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="tianji", messages=USER)
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="wishes",
            messages=USER,
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert whole.model == "wishes"
    assert text == whole.choices[0].message.content
    assert text
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens <= 16


async def test_completions(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(model="wishes", prompt="床前明月光", max_tokens=4)
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 4


async def test_the_limit_holds_under_every_name(client: AsyncOpenAI) -> None:
    for name in ("max_tokens", "max_completion_tokens", "n_predict"):
        answer = await client.chat.completions.create(
            model="wishes",
            messages=USER,
            extra_body={name: 100_000, "ignore_eos": True},
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 400


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long(client: AsyncOpenAI, stream: bool) -> None:
    long: list[Any] = [{"role": "user", "content": "长" * 3000}]
    with pytest.raises(openai.BadRequestError, match="context") as caught:
        await client.chat.completions.create(model="wishes", messages=long, stream=stream)
    assert caught.value.code == "context_length_exceeded"


async def test_what_the_engine_refuses(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="wishes", messages=USER, extra_body={"response_format": {"type": "no_such"}}
        )
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_its_place(gateway: Running, stream: bool) -> None:
    body = {
        "model": "wishes",
        "messages": USER,
        "max_tokens": 400,
        "ignore_eos": True,
        "stream": stream,
    }
    engine = replica(gateway).url
    async with httpx.AsyncClient(timeout=30) as http:
        asking = asyncio.create_task(http.post(f"{gateway.url}/v1/chat/completions", json=body))
        async with asyncio.timeout(20):
            while not await busy(http, engine):
                assert not asking.done()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            while await busy(http, engine):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert replica(gateway).in_flight == 0


async def busy(http: httpx.AsyncClient, engine: str) -> bool:
    return any(slot["is_processing"] for slot in (await http.get(f"{engine}/slots")).json())
