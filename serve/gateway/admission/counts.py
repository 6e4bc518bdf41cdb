"""Counters of one minute each, in this process or in a Redis shared by several.

Windows are fixed: a minute begins with the first use. It is the one strategy in which what is known
only afterwards, the tokens of an answer, can be counted beyond the limit too; and it costs two
numbers per name. `limits` counts in Redis. Within a process its storage starts a task and looks
through all names on each count (6 µs with two names, 27 µs with two hundred), so here it is a dict.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from assistants import HanlinError

log = logging.getLogger("hanlin.gateway")

WINDOW_SECONDS = 60

PATIENCE_SECONDS = 0.25
"""How long a request waits for Redis; it stands on the same network, or it is no use."""
REST_SECONDS = 2.0
"""For so long after a failure Redis is not asked: requests must not each wait for what is away."""

FRESH_SECONDS = 1.0
"""How old a count may be that is only looked at: what this gateway adds itself tells it the sum."""

SCHEMES = ("redis", "rediss", "unix")


@dataclass(slots=True)
class Window:
    """How much was used, and when (unix time) counting begins anew."""

    used: int
    until: float


NEVER = (-math.inf, Window(0, 0.0))


class Counts(Protocol):
    """A count per name and minute."""

    async def add(self, name: str, amount: int) -> Window: ...

    async def read(self, name: str) -> Window: ...

    async def close(self) -> None: ...


class Own:
    """Counts of this process. Names are of configured keys, so there is nothing to sweep."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._windows: dict[str, Window] = {}

    async def add(self, name: str, amount: int) -> Window:
        window = self._windows.get(name)
        now = self._clock()
        if window is None or window.until <= now:
            window = self._windows[name] = Window(0, now + WINDOW_SECONDS)
        window.used += amount
        return window

    async def read(self, name: str) -> Window:
        return await self.add(name, 0)

    async def close(self) -> None:
        """Nothing is open."""


class Shared:
    """Counts in Redis; while it is away, each gateway counts for itself and says so."""

    def __init__(self, url: str, *, away: Callable[[], None]) -> None:
        # Imported here: 10 MiB that a gateway on its own does without.
        from limits.aio.storage import RedisStorage
        from redis import asyncio as redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 1),  # a kept connection that was closed
        )
        self._storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="hanlin",
            connection_pool=self._pool,  # type: ignore[arg-type]
        )
        self._lost = (redis.RedisError, OSError, TimeoutError)
        self._own = Own()
        self._tell_away = away
        self._rests_until = 0.0
        self._ends: dict[str, float] = {}
        self._seen: dict[str, tuple[float, Window]] = {}

    async def add(self, name: str, amount: int) -> Window:
        return await self._ask(name, amount) or await self._own.add(name, amount)

    async def read(self, name: str) -> Window:
        at, window = self._seen.get(name, NEVER)
        if time.monotonic() - at < FRESH_SECONDS and time.time() < window.until:
            return window
        return await self._ask(name, 0) or await self._own.read(name)

    async def close(self) -> None:
        await self._pool.aclose()

    async def _ask(self, name: str, amount: int) -> Window | None:
        if self._rests_until > time.monotonic():
            return None
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                if amount:
                    used = await self._storage.incr(name, WINDOW_SECONDS, amount)
                else:
                    used = await self._storage.get(name)
                window = Window(used, await self._end(name, begun=used > amount))
        except self._lost as error:
            self._note_away(error)
            return None
        self._seen[name] = (time.monotonic(), window)
        return window

    async def _end(self, name: str, *, begun: bool) -> float:
        """When the window ends; Redis is asked once for each."""
        now = time.time()
        if not begun:
            self._ends[name] = now + WINDOW_SECONDS
        elif self._ends.get(name, 0) <= now:
            self._ends[name] = await self._storage.get_expiry(name)
        return self._ends[name]

    def _note_away(self, error: Exception) -> None:
        self._rests_until = time.monotonic() + REST_SECONDS
        self._tell_away()
        log.warning(
            "Redis does not answer (%s); for %g s this gateway counts for itself.",
            type(error).__name__,
            REST_SECONDS,
        )


def counts(url: str | None, *, away: Callable[[], None]) -> Counts:
    """The counts a URL names; none, or memory://, for this process alone.

    Raises:
        HanlinError: the URL is not one of a Redis.
    """
    if url is None or url == "memory://":
        return Own()
    if urlsplit(url).scheme not in SCHEMES:  # the URL is not repeated: it may hold a password
        raise HanlinError(
            "--limits-url names no Redis; it looks like redis://HOST:6379/0 "
            "(rediss:// with TLS, unix:// for a socket)."
        )
    return Shared(url, away=away)
