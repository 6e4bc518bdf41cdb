"""Reads the gateway's /metrics again and again, once for all open pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx

from serve.pace import Readings
from serve.reading import Reading, read
from serve.ui.house import GONE, LOCKED

MINUTES = 10
MOST_SECONDS = 3.0


class Watch:
    """The last minutes of one gateway."""

    def __init__(self, gateway_url: str, *, key: str, each: float) -> None:
        self._url = f"{gateway_url.rstrip('/')}/metrics"
        self._headers = {"authorization": f"Bearer {key}"}
        self.each = each
        self._readings = Readings(MINUTES * 60)
        self.trouble = GONE
        """What was wrong at the last look: `GONE`, `LOCKED`, or nothing."""

    @property
    def readings(self) -> Sequence[Reading]:
        return self._readings.all

    async def keep_looking(self) -> None:
        """Look until cancelled."""
        async with httpx.AsyncClient(timeout=MOST_SECONDS, headers=self._headers) as client:
            while True:
                began = time.monotonic()
                self.trouble = await self._look(client)
                await asyncio.sleep(max(self.each - (time.monotonic() - began), 0))

    async def _look(self, client: httpx.AsyncClient) -> str:
        try:
            answer = await client.get(self._url)
            if answer.status_code in (401, 403):  # a proxy's: the gateway itself lets everybody see
                return LOCKED
            self._readings.take(read(answer.raise_for_status().text, time.time()))
        except (httpx.HTTPError, ValueError):
            return GONE
        return ""
