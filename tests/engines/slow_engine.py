"""A small engine for supervision tests: it loads for a while, answers streams, and can misbehave.

    python -m tests.engines.slow_engine PORT [--load SECONDS] [--fault …]

`--hang-after N`: after N completions no further one is ever answered, though /health is. A request
may say how many `seconds` its answer takes, or `until` there is which file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

HEAD = "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"


class Engine:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._answered = 0
        self._in_flight = 0

    async def serve(self) -> None:
        await asyncio.sleep(self._options.load)
        await _until_there(self._options.loads_until)
        server = await asyncio.start_server(self._connected, "127.0.0.1", self._options.port)
        print(f"serving, process {os.getpid()}", flush=True)
        async with server:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)
            with contextlib.suppress(asyncio.CancelledError):
                await server.serve_forever()

    def _end(self) -> None:
        """A request in flight is cut, so that a test sees when that happens."""
        sys.stderr.write(f"ends with {self._in_flight} in flight\n")
        sys.stderr.flush()
        os._exit(0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                method, path, _ = head.split(" ", 2)
                size = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
                body = await reader.readexactly(size)
                await self._answer(method, path, body, writer)
        writer.close()

    async def _answer(
        self, method: str, path: str, body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if path == "/slots":
            await _send(writer, [{"id": 0, "is_processing": True}] * self._in_flight)
        elif method == "get":
            await _send(writer, {"status": "ok"})
        else:
            self._in_flight += 1
            try:
                await self._complete(json.loads(body), writer)
            finally:
                self._in_flight -= 1

    async def _complete(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        limit = self._options.hang_after
        if limit is not None and self._answered >= limit:
            await asyncio.Event().wait()
        await asyncio.sleep(float(asked.get("seconds", 0)))
        await _until_there(asked.get("until"))
        self._answered += 1
        await _send(writer, {"choices": [{"text": "1"}]})


async def _until_there(file: str | None) -> None:
    while file is not None and not os.path.exists(file):  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.02)


async def _send(writer: asyncio.StreamWriter, what: object) -> None:
    body = json.dumps(what).encode()
    writer.write(HEAD.format(status="200 OK", size=len(body)).encode() + body)
    await writer.drain()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--load", type=float, default=0.0)
    parser.add_argument("--loads-until", help="until there is this file")
    parser.add_argument("--hang-after", type=int)
    parser.add_argument("--needs", type=Path, help="without this file it ends at once")
    parser.add_argument("--say", help="a line for its log")
    options = parser.parse_args()
    if options.say:
        print(options.say, flush=True)
    if options.needs and not options.needs.exists():
        sys.exit(3)
    asyncio.run(Engine(options).serve())


if __name__ == "__main__":
    main()
