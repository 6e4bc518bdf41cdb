"""What is put in front of LMDeploy: it counts, and it does not fall back. No LMDeploy is needed."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from serve.engines.backends.turbomind_server import InFlight, no_fall_back


class Slow:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.began.set()
        await self.go.wait()
        if scope["path"] == "/fails":
            raise RuntimeError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("method", "path", "counted"), [("POST", "/", 1), ("POST", "/fails", 1), ("GET", "/", 0)]
)
async def test_what_is_posted_counts_until_it_is_answered(
    method: str, path: str, counted: int
) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("hanlin_requests_in_flight", "d", registry=registry)
    slow = Slow()
    transport = httpx.ASGITransport(InFlight(slow, gauge), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        asked = asyncio.create_task(client.request(method, path))
        await slow.began.wait()
        assert registry.get_sample_value("hanlin_requests_in_flight") == counted
        slow.go.set()
        await asked
    assert registry.get_sample_value("hanlin_requests_in_flight") == 0


async def test_who_leaves_is_counted_no_more() -> None:
    registry = CollectorRegistry()
    slow = Slow()
    counting = InFlight(slow, Gauge("g", "d", registry=registry))
    asked = asyncio.create_task(counting({"type": "http", "method": "POST"}, None, None))
    await slow.began.wait()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert registry.get_sample_value("g") == 0


def test_falling_back_ends_it() -> None:
    log = logging.Logger("lmdeploy")
    log.addFilter(no_fall_back)
    log.warning("prompt is too long")
    with pytest.raises(SystemExit, match="because turbomind is not built"):
        log.warning("Fallback to pytorch engine because turbomind is not built.")
