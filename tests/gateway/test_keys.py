"""Who is let in, with which key, to which assistants; as the official clients see it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from assistants import HanlinError
from assistants.errors import DeclarationError
from hanlin import parts
from hanlin.client.chat import chat
from hanlin.client.target import target
from hanlin.page import PageOptions
from serve.declared import Declared
from serve.gateway.admission.keys import Keys, KeySources, credential, new_key
from serve.gateway.errors import UnauthorizedError
from serve.gateway.settings import GatewaySettings
from serve.ui.house import House
from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running, declare, gateway_before, house_of, listening
from tests.ports import free_port

HOUSE = house_of(declare("wishes"), declare("lawyer", aliases=["law"]))
USER: Any = [{"role": "user", "content": "hello"}]


def written(folder: Path, text: str) -> Path:
    file = folder / "keys.yaml"
    file.write_text(text)
    return file


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_a_key_is_256_random_bits_and_said_to_be_one() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert first.startswith("hl-")
    assert len(first) == len("hl-") + 43


def test_both_ways_of_sending_one() -> None:
    assert credential(b"Bearer hl-a", b"") == b"hl-a"
    assert credential(b"bearer  hl-a ", b"hl-b") == b"hl-a"
    assert credential(b"Basic dXNlcg==", b"hl-b") == b"hl-b"
    assert credential(b"", b"hl-b") == b"hl-b"


# --- the file


def test_the_file_says_whose_a_key_is_and_what_it_may(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        f"keys:\n  page:\n    sha256: {sha256('hl-a')}\n"
        "    assistants: [law]\n    concurrency: 2\n",
    )
    key = Keys(KeySources(file=file), HOUSE).visitor(b"hl-a")
    assert (key.name, key.assistants, key.concurrency) == ("page", {"lawyer"}, 2)
    assert key.tokens_per_minute is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("keys:\n  a:\n    sha256: {a}\n    request_per_minute: 3\n", 4, "requests_per_minute"),
        ("keys:\n  a:\n    sha256: {a}\n    concurrency: 0\n", 4, "must be at least 1, not 0"),
        ("keys:\n  a:\n    assistants: []\n", 2, "'keys.a.sha256' is missing"),
        ("keys:\n  a:\n    sha256: {a}\n    assistants: [lawer]\n", 4, "Did you mean 'lawyer'?"),
        ("keys:\n  a:\n    sha256: {a}\n  b:\n    sha256: {a}\n", 4, "'b' and 'a' are the same"),
        ("keys:\n  a:\n    sha256: {a}\n  a:\n    sha256: {a}\n", 4, "'a' is given twice"),
        ("keys:\n  A b:\n    sha256: {a}\n", 2, "is not a name"),
        ("key:\n  a: {{}}\n", 1, "did you mean 'keys'?"),
        ("- a\n", 1, "begins with keys:"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    file = written(tmp_path, text.format(a=sha256("hl-a")))
    with pytest.raises(DeclarationError) as caught:
        Keys(KeySources(file=file), HOUSE)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["keys:\n  a:\n    sha256: hl-secret\n", "keys:\n  a: hl-secret\n"]
)
def test_a_key_put_into_the_file_plainly_is_refused_and_not_repeated(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        Keys(KeySources(file=written(tmp_path, text)), HOUSE)
    assert "hl-secret" not in str(caught.value)
    assert "hanlin key" in str(caught.value)


def test_a_file_that_is_missing_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(HanlinError, match="hanlin key NAME --file"):
        Keys(KeySources(file=tmp_path / "keys.yaml"), HOUSE)


def test_read_anew_and_where_that_fails_the_old_ones_stay(tmp_path: Path) -> None:
    file = written(tmp_path, f"keys:\n  a:\n    sha256: {sha256('hl-a')}\n")
    keys = Keys(KeySources(file=file), HOUSE)
    written(tmp_path, f"keys:\n  b:\n    sha256: {sha256('hl-b')}\n")
    keys.reload(HOUSE)
    assert keys.visitor(b"hl-b").name == "b"
    with pytest.raises(UnauthorizedError):
        keys.visitor(b"hl-a")
    written(tmp_path, "keys: 3\n")
    with pytest.raises(DeclarationError):
        keys.reload(HOUSE)
    assert keys.visitor(b"hl-b").name == "b"


def test_a_file_without_keys_lets_nobody_in(tmp_path: Path) -> None:
    keys = Keys(KeySources(file=written(tmp_path, "keys: {}\n")), HOUSE)
    with pytest.raises(UnauthorizedError):
        keys.visitor(b"")


# --- over HTTP


@pytest.fixture
async def gateway(engine: EngineStub, stack: AsyncExitStack, tmp_path: Path) -> Running:
    """`hl-law` may use the lawyer only, `hl-all` both."""
    file = written(
        tmp_path,
        f"keys:\n  law:\n    sha256: {sha256('hl-law')}\n    assistants: [lawyer]\n"
        f"  all:\n    sha256: {sha256('hl-all')}\n",
    )
    assistants = (declare(name, upstreams=[engine.url]) for name in ("wishes", "lawyer"))
    return await stack.enter_async_context(
        gateway_before(house_of(*assistants), keys=KeySources(file=file))
    )


def client(gateway: Running, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_wrong_key_is_an_authentication_error(
    gateway: Running, engine: EngineStub, stream: bool
) -> None:
    async with client(gateway, "hl-wrong") as wrong:
        with pytest.raises(openai.AuthenticationError) as caught:
            await wrong.chat.completions.create(model="lawyer", messages=USER, stream=stream)
        assert caught.value.code == "invalid_api_key"
        assert caught.value.response.headers["www-authenticate"] == "Bearer"
        assert "hl-wrong" not in str(caught.value)
        with pytest.raises(openai.AuthenticationError):
            await wrong.models.list()
        with pytest.raises(openai.AuthenticationError):
            await wrong.models.retrieve("lawyer")
    assert engine.requests == []


async def test_a_key_asks_only_whom_it_may(gateway: Running, engine: EngineStub) -> None:
    async with client(gateway, "hl-law") as law:
        assert [model.id async for model in law.models.list()] == ["lawyer"]
        await law.chat.completions.create(model="lawyer", messages=USER)
        for refused in (
            law.chat.completions.create(model="wishes", messages=USER),
            law.models.retrieve("wishes"),
        ):
            with pytest.raises(openai.PermissionDeniedError, match="'law' may not use"):
                await refused
        for unknown in (
            law.chat.completions.create(model="wishe", messages=USER),
            law.models.retrieve("wishe"),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                await unknown
            assert "wishes" not in str(caught.value)
    assert len(engine.requests) == 1
    assert "authorization" not in engine.requests[0].headers
    async with client(gateway, "hl-all") as both:
        assert [model.id async for model in both.models.list()] == ["wishes", "lawyer"]


async def test_anthropics_header_is_as_good(gateway: Running, engine: EngineStub) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, headers={"x-api-key": "hl-all"}) as http:
        body = {"model": "wishes", "messages": USER}
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        assert (await http.get("/v1/models")).status_code == 200
    assert "x-api-key" not in engine.requests[0].headers


async def test_what_needs_a_key_and_what_does_not(gateway: Running) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        for path in ("/health", "/ready", "/metrics"):
            assert (await http.get(path)).status_code == 200
        assert (await http.get("/v1/models")).status_code == 401
        told = await http.post("/v1/assistants/lawyer/prompt", json={})
        assert (told.status_code, told.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_who_has_no_key_is_told_before_the_body_is_read(gateway: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 99\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()
    await writer.wait_closed()


async def test_a_changed_file_is_taken_over_and_a_broken_one_is_not(
    tmp_path: Path,
    engine: EngineStub,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("serve.declared.LOOK_SECONDS", 0.01)
    file = written(tmp_path, f"keys:\n  a:\n    sha256: {sha256('hl-a')}\n")
    house = house_of(declare(upstreams=[engine.url]))
    settings = GatewaySettings(port=0, keys=KeySources(file=file), drain_grace_seconds=0)
    declared = Declared(tmp_path, lambda: house, keys=file)

    async with (
        listening(settings, house, declared=declared) as gateway,
        client(gateway, "hl-a") as first,
        client(gateway, "hl-b") as second,
        asyncio.timeout(20),
    ):
        await first.models.list()
        written(tmp_path, f"keys:\n  b:\n    sha256: {sha256('hl-b')}\n")
        while not await known(second):  # each question lets the gateway go on
            pass
        assert not await known(first)
        written(tmp_path, "keys: broken\n")
        while "are ignored" not in caplog.text:
            assert await known(second)
        assert await known(second)


async def known(client: openai.AsyncOpenAI) -> bool:
    try:
        await client.models.list()
    except openai.AuthenticationError:
        return False
    return True


# --- our own clients


async def test_the_terminal_chat_sends_hanlin_key(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("HANLIN_KEY", "hl-law")
    await asyncio.to_thread(chat, "lawyer", target(gateway.url, None, None, os.environ))
    monkeypatch.setenv("HANLIN_KEY", "hl-wrong")
    with pytest.raises(HanlinError, match="not one of this gateway's"):
        await asyncio.to_thread(chat, "lawyer", target(gateway.url, None, None, os.environ))


async def test_the_page_shows_what_its_key_may_use(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setenv("HANLIN_KEY", "hl-law")
    monkeypatch.setattr("serve.ui.page.run", lambda settings: given.update(key=settings.key))
    monkeypatch.setattr("hanlin.parts.end_well", lambda: None)
    parts.ui(PageOptions(gateway.url, "127.0.0.1", free_port()))
    page = House(gateway.url, key=given["key"])
    glance = await page.glance()
    await page.client.close()
    assert [assistant.id for assistant in glance.assistants] == ["lawyer"]
