"""An engine that costs next to nothing, so that a gateway before it is what is measured.

    python -m bench.paced_engine PORT

It speaks HTTP by hand on uvloop. A stream has 64 tokens, the first after 20 ms and then one each
10 ms; every token carries the time at which it was sent. `GET /stats` tells what it has done.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable

import uvloop

MODEL = "wishes"
TOKENS = 64
FIRST_SECONDS, NEXT_SECONDS = 0.02, 0.01
USAGE = {"prompt_tokens": 10, "completion_tokens": TOKENS, "total_tokens": 10 + TOKENS}
FACE = {"id": "chatcmpl-1", "created": 1700000000, "model": MODEL}
MARK = "@"
"""Stands before the time in every token."""


def _plain(body: object) -> bytes:
    text = json.dumps(body, separators=(",", ":")).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(text) + text


def _event(choices: list[object], **more: object) -> bytes:
    body = {**FACE, "object": "chat.completion.chunk", "choices": choices, **more}
    return b"data: %b\n\n" % json.dumps(body, separators=(",", ":")).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _choice(delta: dict[str, str], reason: str | None) -> list[object]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]


MESSAGE = {"role": "assistant", "content": MARK * TOKENS, "refusal": None}
WHOLE = _plain(
    {**FACE, "object": "chat.completion", "usage": USAGE, "choices": [
        {"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}]}
)  # fmt: skip
MODELS = _plain({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "me"}]})
WELL = _plain({"status": "ok", "model_path": MODEL, "is_generation": True})
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BEGINNING = _event(_choice({"role": "assistant", "content": ""}, None))
BEFORE, AFTER = _event(_choice({"content": "\0"}, None)).split(b"\\u0000")
COUNTED = _chunk(_event([], usage=USAGE))
LAST = _chunk(_event(_choice({}, "stop"))), _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Done:
    """What was done since the start."""

    requests = 0
    tokens = 0


class Conversation(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._got = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._got[:end]).lower()
        _, found, length = head.partition(b"content-length:")
        whole = end + 4 + (int(length.split(b"\r\n")[0]) if found else 0)
        if len(self._got) < whole:
            if b"expect: 100-continue" in head:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        body = bytes(self._got[end + 4 : whole])
        del self._got[:whole]
        self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /stats"):
            did = {"requests": self._done.requests, "tokens": self._done.tokens}
            self._transport.write(_plain({**did, "cpu": time.process_time()}))
        elif not head.startswith(b"post /v1/"):
            self._transport.write(MODELS if b"/models" in head[:30] else WELL)
        else:
            self._done.requests += 1
            tight = body.replace(b" ", b"") if len(body) < 5000 else body
            if b'"stream":true' in tight:
                self._stream(counted=b'"include_usage":true' in tight)
            else:
                self._transport.write(WHOLE)

    def _stream(self, *, counted: bool) -> None:
        self._transport.write(HEAD + _chunk(BEGINNING))
        last = LAST[0] + (COUNTED if counted else b"") + LAST[1]
        self._later(FIRST_SECONDS, lambda: self._token(TOKENS, last))

    def _token(self, left: int, last: bytes) -> None:
        if not left:
            self._transport.write(last)
            return
        self._done.tokens += 1
        stamp = b"%s%d " % (MARK.encode(), time.monotonic_ns() // 1000)
        self._transport.write(_chunk(BEFORE + stamp + AFTER))
        self._later(NEXT_SECONDS, lambda: self._token(left - 1, last))

    def _later(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, then)


async def serve(port: int) -> None:
    done = Done()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Conversation(done), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
