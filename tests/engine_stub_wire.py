"""HTTP by hand, for a stand-in engine that has to break it: requests in, answers out in pieces."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass(frozen=True, slots=True)
class Wire:
    """Writes an answer, in as small pieces as the plan asks for."""

    writer: asyncio.StreamWriter
    split: int
    server: str = ""
    """What it calls itself in the head of an answer."""

    async def send(self, data: bytes) -> None:
        size = self.split or len(data) or 1
        for start in range(0, len(data), size):
            self.writer.write(data[start : start + size])
            await self.writer.drain()
            if self.split:
                await asyncio.sleep(0)

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def stream(self, kind: str) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n"
        await self.send(f"{head}{self._own}\r\n".encode())

    async def head(self, status: int, kind: str, length: int) -> None:
        head = f"HTTP/1.1 {status} Word\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n"
        await self.send(f"{head}{self._own}\r\n".encode())

    @property
    def _own(self) -> str:
        return f"Server: {self.server}\r\n" if self.server else ""

    async def whole(self, status: int, kind: str, body: bytes) -> None:
        await self.head(status, kind, len(body))
        await self.send(body)


async def read(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in head[1:] if line)}
    return Seen(
        method, path, headers, await reader.readexactly(int(headers.get("content-length", 0)))
    )


def reset(writer: asyncio.StreamWriter) -> bool:
    """Close so that the other end sees a reset, as when a process is killed."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
