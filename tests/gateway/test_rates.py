"""What a key may use in a minute: counted, told in OpenAI's headers, and refused in its error."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from assistants import HanlinError
from serve.gateway.admission.counts import Own, Shared, counts
from serve.gateway.admission.keys import KeySources
from tests.engine_stub import EngineStub
from tests.gateway.conftest import Running, declare, gateway_before, house_of
from tests.gateway.redis_server import MISSING, WHY, RedisServer, redis_server

USER: Any = [{"role": "user", "content": "hello"}]
COST = 3 + 5
"""Tokens of one answer of the stand-in engine."""

needs_redis = pytest.mark.skipif(MISSING, reason=WHY)


def nothing() -> None:
    """For who is not interested in Redis being away."""


async def ask(client: openai.AsyncOpenAI, **given: Any) -> Any:
    return await client.chat.completions.with_raw_response.create(
        model="wishes", messages=USER, **given
    )


async def status(client: openai.AsyncOpenAI) -> int:
    try:
        return int((await ask(client)).status_code)
    except openai.APIStatusError as error:
        return error.status_code


@pytest.fixture
def limited(stack: AsyncExitStack, engine: EngineStub, tmp_path: Path) -> Any:
    """Starts a gateway with one key, `hl-a`, and these limits; gives the official client of it."""

    async def start(*, limits_url: str | None = None, **limits: int) -> openai.AsyncOpenAI:
        digest = hashlib.sha256(b"hl-a").hexdigest()
        lines = [f"    {name}: {value}\n" for name, value in limits.items()]
        file = tmp_path / "keys.yaml"
        file.write_text(f"keys:\n  a:\n    sha256: {digest}\n{''.join(lines)}")
        running: Running = await stack.enter_async_context(
            gateway_before(
                house_of(declare(upstreams=[engine.url])),
                keys=KeySources(file=file),
                limits_url=limits_url,
            )
        )
        client = openai.AsyncOpenAI(
            base_url=f"{running.url}/v1", api_key="hl-a", max_retries=0, timeout=20
        )
        return await stack.enter_async_context(client)

    return start


# --- counting


async def test_a_minute_begins_with_its_first_use() -> None:
    now = 1000.0
    own = Own(clock=lambda: now)
    assert (await own.add("a", 2)).until == 1060
    now = 1059.0
    assert ((await own.add("a", 3)).used, (await own.read("b")).used) == (5, 0)
    now = 1060.0
    window = await own.add("a", 1)
    assert (window.used, window.until) == (1, 1120)


def test_what_is_no_redis_is_refused_without_repeating_its_password() -> None:
    with pytest.raises(HanlinError, match="redis://HOST") as caught:
        counts("http://user:secret@host/", away=nothing)
    assert "secret" not in str(caught.value)
    assert isinstance(counts(None, away=nothing), Own)


# --- one gateway


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_say_what_is_left(limited: Any, stream: bool) -> None:
    client = await limited(requests_per_minute=2, tokens_per_minute=100)
    answer = await ask(client, stream=stream)
    told = {name: value for name, value in answer.headers.items() if "ratelimit" in name}
    assert told.pop("x-ratelimit-reset-requests").endswith("s")
    assert told.pop("x-ratelimit-reset-tokens").endswith("s")
    assert told == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "100",
    }


async def test_requests_beyond_the_minute_are_refused(limited: Any, engine: EngineStub) -> None:
    client = await limited(requests_per_minute=2)
    assert [await status(client) for _ in range(2)] == [200, 200]
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client)
    error, headers = caught.value, caught.value.response.headers
    assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-ratelimit-limit-tokens" not in headers
    assert len(engine.requests) == 2


async def test_tokens_are_counted_when_they_are_known(limited: Any) -> None:
    client = await limited(tokens_per_minute=COST + 1)
    assert (await ask(client)).headers["x-ratelimit-remaining-tokens"] == str(COST + 1)
    assert (await ask(client)).headers["x-ratelimit-remaining-tokens"] == "1"
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client)
    assert (caught.value.type, caught.value.code) == ("tokens", "rate_limit_exceeded")


async def test_tokens_of_streams_count_too(limited: Any) -> None:
    client = await limited(tokens_per_minute=1)
    async for _ in await client.chat.completions.create(model="wishes", messages=USER, stream=True):
        pass
    with pytest.raises(openai.RateLimitError):
        await ask(client)


async def test_so_many_at_once(limited: Any, engine_with: Any, engine: EngineStub) -> None:
    engine.plan = type(engine.plan)(hang="head")
    client = await limited(concurrency=1)
    first = asyncio.create_task(ask(client))
    await engine.until(lambda seen: seen.open)
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client)
    assert caught.value.response.headers["retry-after"] == "1"
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await engine.until(lambda seen: not seen.open)
    engine.plan = type(engine.plan)()
    assert await status(client) == 200


async def test_nothing_is_said_of_what_is_not_limited(limited: Any) -> None:
    answer = await ask(await limited())
    assert not [name for name in answer.headers if "ratelimit" in name]


# --- Redis


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@needs_redis
async def test_two_gateways_share_one_budget(limited: Any, redis: RedisServer) -> None:
    one = await limited(limits_url=redis.url, requests_per_minute=3)
    other = await limited(limits_url=redis.url, requests_per_minute=3)
    assert [await status(client) for client in (one, other, one, other, one)] == [
        *(200, 200, 200),
        *(429, 429),
    ]


@needs_redis
async def test_two_gateways_share_tokens(limited: Any, redis: RedisServer) -> None:
    one = await limited(limits_url=redis.url, tokens_per_minute=COST)
    other = await limited(limits_url=redis.url, tokens_per_minute=COST)
    assert await status(one) == 200
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(other)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


@needs_redis
async def test_redis_killed_under_way_fails_no_request(
    limited: Any, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = await limited(limits_url=redis.url, requests_per_minute=3)
    assert await status(client) == 200
    await redis.kill()
    # From here this gateway counts for itself: three more, and the limit still holds.
    assert [await status(client) for _ in range(4)] == [200, 200, 200, 429]
    assert caplog.text.count("this gateway counts for itself") == 1
    metrics = await client._client.get(str(client.base_url.join("/metrics")))
    assert "hanlin_limits_away_total 1.0" in metrics.text


@needs_redis
async def test_redis_that_hangs_is_not_waited_for(redis: RedisServer) -> None:
    told: list[int] = []
    shared = Shared(redis.url, away=lambda: told.append(1))
    assert (await shared.add("a", 1)).used == 1
    assert redis.process is not None
    os.kill(redis.process.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            assert (await shared.add("a", 1)).used == 1
            assert (await shared.add("a", 1)).used == 2  # at once: it is not asked for a while
    finally:
        os.kill(redis.process.pid, signal.SIGCONT)
        await shared.close()
    assert told == [1]


@needs_redis
async def test_redis_that_comes_back_is_asked_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.gateway.admission.counts.REST_SECONDS", 0.0)
    shared = Shared(redis.url, away=nothing)
    await redis.kill()
    await shared.add("a", 5)
    await redis.start()
    assert (await shared.add("a", 1)).used == 1
    assert (await shared.read("a")).used == 1
    await shared.close()


@needs_redis
async def test_who_comes_into_a_window_of_another_knows_its_end(redis: RedisServer) -> None:
    first, second = Shared(redis.url, away=nothing), Shared(redis.url, away=nothing)
    begun = await first.add("a", 1)
    seen = await second.add("a", 1)
    assert (seen.used, abs(seen.until - begun.until) < 2) == (2, True)
    await first.close()
    await second.close()
