"""Reads the gateway's /metrics again and again, once for all open pages."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import httpx

from serve.ui.status.reading import Reading, read

EACH_SECONDS = 5.0
MINUTES = 10
MOST_SECONDS = 3.0


class Watch:
    """The last minutes of one gateway."""

    def __init__(self, gateway_url: str, *, key: str, each: float = EACH_SECONDS) -> None:
        self._url = f"{gateway_url.rstrip('/')}/metrics"
        self._headers = {"authorization": f"Bearer {key}"}
        self.each = each
        self._readings: deque[Reading] = deque(maxlen=int(MINUTES * 60 / each))
        self.blind = True
        """Whether the last look found nothing."""

    @property
    def readings(self) -> Sequence[Reading]:
        return tuple(self._readings)

    async def keep_looking(self) -> None:
        """Look until cancelled."""
        async with httpx.AsyncClient(timeout=MOST_SECONDS, headers=self._headers) as client:
            while True:
                began = time.monotonic()
                await self._look(client)
                await asyncio.sleep(max(self.each - (time.monotonic() - began), 0))

    async def _look(self, client: httpx.AsyncClient) -> None:
        try:
            answer = (await client.get(self._url)).raise_for_status()
            self._readings.append(read(answer.text, time.time()))
            self.blind = False
        except (httpx.HTTPError, ValueError):
            self.blind = True
