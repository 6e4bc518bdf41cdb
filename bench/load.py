"""Closed-loop clients: each asks again as soon as it is answered, and checks what it got.

    python -m bench.load PORT KEY MODE CONNECTIONS SECONDS

A process of its own, on uvloop, so that it takes nothing from what it measures. Prints one JSON
object: answers, answers that were not whole, the median time of one, and the median time that a
token was on its way from the engine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field

import uvloop

from bench.paced_engine import MARK, MODEL, TOKENS

BIG = 100_000
TOKEN = MARK.encode()
DONE, END = b"[DONE]", b"\r\n0\r\n\r\n"


@dataclass
class Seen:
    """By all clients together, once they were warm."""

    answers: int = 0
    wrong: int = 0
    first_wrong: str = ""
    seconds: list[float] = field(default_factory=list)
    hops: list[int] = field(default_factory=list)
    """Microseconds from the engine to here, of one token of each piece that came."""


def request(mode: str, key: str) -> bytes:
    said = "x" * BIG if mode == "big" else "Say something."
    body: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": said}]}
    body |= {"max_tokens": TOKENS, "stream": mode == "sse"}
    text = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
        f"{key}\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text


class Asker(asyncio.Protocol):
    """One client: asks, reads to the end, asks again."""

    def __init__(self, asks: bytes, *, streams: bool, seen: Seen) -> None:
        self._asks = asks
        self._streams = streams
        self._seen = seen
        self._got = bytearray()
        self._length: int | None = None
        self._began = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._transport.is_closing():
            self._wrong(repr(error))

    def _ask(self) -> None:
        self._got.clear()
        self._length = None
        self._began = time.perf_counter()
        self._transport.write(self._asks)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._streams:
            self._time(data)
        if self._whole():
            self._judge()
            self._ask()

    def _time(self, data: bytes) -> None:
        at = data.rfind(TOKEN)
        if at >= 0 and (end := data.find(b" ", at)) > 0:
            self._seen.hops.append(time.monotonic_ns() // 1000 - int(data[at + 1 : end]))

    def _whole(self) -> bool:
        if self._length is None:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return False
            _, found, rest = bytes(self._got[:end]).lower().partition(b"content-length:")
            self._length = end + 4 + int(rest.split(b"\r\n")[0]) if found else 0
        return len(self._got) >= self._length if self._length else self._got.endswith(END)

    def _judge(self) -> None:
        seen, got = self._seen, self._got
        seen.answers += 1
        seen.seconds.append(time.perf_counter() - self._began)
        whole = got.startswith(b"HTTP/1.1 200") and got.count(TOKEN) == TOKENS
        if not whole or (self._streams and DONE not in got[-40:]):
            self._wrong(bytes(got[-300:]).decode(errors="replace"))

    def _wrong(self, what: str) -> None:
        self._seen.wrong += 1
        self._seen.first_wrong = self._seen.first_wrong or what


async def load(port: int, key: str, mode: str, connections: int, seconds: float) -> Seen:
    loop, asks, seen = asyncio.get_running_loop(), request(mode, key), Seen()
    streams = mode == "sse"
    pairs = [
        await loop.create_connection(
            lambda: Asker(asks, streams=streams, seen=seen), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    for transport, _ in pairs:
        transport.abort()
    return seen


def main() -> None:
    port, key, mode, connections, seconds = sys.argv[1:]
    seen = uvloop.run(load(int(port), key, mode, int(connections), float(seconds)))
    print(json.dumps({
        "answers": seen.answers, "wrong": seen.wrong, "first_wrong": seen.first_wrong,
        "p50_ms": statistics.median(seen.seconds or [0]) * 1e3,
        "hop_ms": statistics.median(seen.hops or [0]) / 1e3,
        "cpu": time.process_time(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
