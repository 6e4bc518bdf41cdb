"""Engines of a few bytes: sockets that answer by a script, and the client that asks them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from serve.gateway.upstream.pool import Upstream
from serve.gateway.upstream.reply import Reply

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LENGTH = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\nhello, world"
)
CLOSING = LENGTH.replace(b"content-length", b"connection: close\r\ncontent-length")
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Type: text/event-stream\r\n\r\n"
    b'5;name=value;other="x;y"\r\nhello\r\n7\r\n, world\r\n0\r\nx-checksum: 1\r\n\r\n'
)
BEGUN = CHUNKED[: CHUNKED.index(b"7\r\n")]
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + LENGTH


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")), 0
    )
    return head + await reader.readexactly(length)


class Engine:
    """A port on which a script answers; it counts connections and keeps what it was sent."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.open = 0
        self.heard: list[bytes] = []
        self.url = ""
        self.left = asyncio.Event()
        """Set whenever a client has closed its end."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self._script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, RuntimeError):
            self.left.set()  # the last is uvloop's word for writing to what is closed
        except asyncio.CancelledError:  # the test is over
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    @contextlib.asynccontextmanager
    async def running(self, *, host: str = "127.0.0.1", tls: Any = None) -> AsyncIterator[Engine]:
        server = await asyncio.start_server(self._serve, host, 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}/v1/x"
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


def saying(*answers: bytes, end: str = "keep", pieces: int = 0) -> Script:
    """A script that answers the requests of every connection with these, one after the other."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            for start in range(0, len(answer), pieces or len(answer) or 1):
                writer.write(answer[start : start + (pieces or len(answer))])
                await asyncio.sleep(0)
            await writer.drain()
        if end == "keep":
            await reader.readexactly(1)
        elif end == "reset":
            option = struct.pack("ii", 1, 0)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            writer.transport.abort()

    return script


async def ask(upstream: Upstream, url: str, *, seconds: float = 10, **given: Any) -> Reply:
    until = asyncio.get_running_loop().time() + seconds
    given = {"body": b"{}", "headers": {}, "connect_seconds": 2, **given}
    return await upstream.ask(url, given.pop("body"), given.pop("headers"), until=until, **given)


async def text(upstream: Upstream, url: str, **given: Any) -> bytes:
    reply = await ask(upstream, url, **given)
    try:
        return await reply.body()
    finally:
        reply.close()


@contextlib.contextmanager
def nobody_accepts() -> Iterator[int]:
    """A port at which a connection is neither taken nor refused: its queue is full."""
    with contextlib.ExitStack() as opened:
        full = opened.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]
