"""Rate limits per key, in requests and tokens per minute, and the headers that report them.

A request is counted when it comes, its tokens when they are known: so a key may overdraw by the
answers that were running when its minute was used up, and no more.
"""

from __future__ import annotations

import math
import time

from serve.gateway.admission.counts import Counts, Window
from serve.gateway.admission.keys import Key
from serve.gateway.errors import RateLimitedError

Headers = list[tuple[bytes, bytes]]

REQUESTS, TOKENS = "requests", "tokens"
NAMES = {
    kind: tuple(f"x-ratelimit-{part}-{kind}".encode() for part in ("limit", "remaining", "reset"))
    for kind in (REQUESTS, TOKENS)
}


class Rates:
    """What each key has used of its minute."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    async def admit(self, key: Key, headers: Headers) -> None:
        """Count a request of a key; `headers` get what its client is to be told.

        Raises:
            RateLimitedError: its minute is used up.
        """
        most_requests, most_tokens = key.requests_per_minute, key.tokens_per_minute
        if most_requests is not None:
            window = await self._counts.add(f"{key.name}/{REQUESTS}", 1)
            _tell(headers, REQUESTS, most_requests, window)
            if window.used > most_requests:
                raise _used_up(key, REQUESTS, most_requests, window)
        if most_tokens is not None:
            window = await self._counts.read(f"{key.name}/{TOKENS}")
            _tell(headers, TOKENS, most_tokens, window)
            if window.used >= most_tokens:
                raise _used_up(key, TOKENS, most_tokens, window)

    async def close(self) -> None:
        await self._counts.close()

    async def spend(self, key: Key, tokens: int) -> None:
        """Count what an answer has cost."""
        if key.tokens_per_minute is not None and tokens:
            await self._counts.add(f"{key.name}/{TOKENS}", tokens)


def _tell(headers: Headers, kind: str, most: int, window: Window) -> None:
    limit, remaining, reset = NAMES[kind]
    left = most - window.used
    headers += (
        (limit, b"%d" % most),
        (remaining, b"%d" % (left if left > 0 else 0)),
        (reset, b"%.3fs" % max(window.until - time.time(), 0)),
    )


def _used_up(key: Key, kind: str, most: int, window: Window) -> RateLimitedError:
    seconds = max(math.ceil(window.until - time.time()), 1)
    return RateLimitedError(
        f"The key '{key.name}' has used up its {most} {kind} per minute; "
        f"counting begins anew in {seconds} s.",
        kind=kind,
        retry_after=seconds,
    )
