"""The access log, one line per request: JSON, or words on a terminal. Never a key.

Not by way of `logging`: a record, its formatting and a handler's lock cost more than the line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

from serve.gateway.record.visit import Visit


class Line(msgspec.Struct, omit_defaults=True):
    """What is written of a request; what is not known is left out."""

    time: datetime
    request_id: str
    assistant: str
    surface: str
    status: int
    ms: float
    ttft_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    key: str | None = None
    replica: str | None = None
    retries: int = 0
    error: str | None = None
    trace_id: str | None = None
    request: str | None = None
    """The body that went to the engine, where prompts are to be logged."""


_encoder = msgspec.json.Encoder()


class AccessLog:
    """Writes a line for each request that has ended; what ends at once is written at once."""

    def __init__(self, out: BinaryIO, *, readable: bool, prompts: bool = False) -> None:
        self._out = out
        self._form: Callable[[Line], bytes] = _words if readable else _json
        self._prompts = prompts
        self._lines: list[bytes] = []

    def write(self, visit: Visit) -> None:
        line = _line(visit)
        if self._prompts and visit.order is not None:
            line.request = visit.order.body.decode()
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        self._lines.append(self._form(line))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        with contextlib.suppress(OSError):  # a full disk is no reason to fail a request
            self._out.write(b"".join(lines))
            self._out.flush()


class JsonLines(logging.Formatter):
    """The gateway's other messages in the same form."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return _encoder.encode(said).decode()


def on_stderr(*, prompts: bool) -> AccessLog:
    """The log of a gateway that runs as a process."""
    return AccessLog(sys.stderr.buffer, readable=sys.stderr.isatty(), prompts=prompts)


def _line(visit: Visit) -> Line:
    exchange, usage, first = visit.exchange, visit.usage, visit.to_first_token
    line = Line(
        datetime.now(UTC),
        exchange.request_id.decode(),
        visit.assistant,
        visit.surface.name,
        exchange.status,
        round(visit.seconds * 1000, 1),
    )
    if first is not None:
        line.ttft_ms = round(first * 1000, 1)
    if usage is not None:
        line.tokens_in, line.tokens_out = usage
    line.key = visit.key.name or None
    line.replica = visit.trail.replica
    line.retries = visit.retries
    line.error = visit.error
    line.trace_id = visit.trace_id
    return line


def _json(line: Line) -> bytes:
    return _encoder.encode(line) + b"\n"


def _words(line: Line) -> bytes:
    first = f", first token {line.ttft_ms:.0f} ms" if line.ttft_ms is not None else ""
    tokens = f", {line.tokens_in}+{line.tokens_out} tokens" if line.tokens_in is not None else ""
    parts = (
        f"{line.time.astimezone():%H:%M:%S} {line.status} {line.assistant} {line.surface}",
        f" {line.ms:.1f} ms{first}{tokens}",
        f", key {line.key}" if line.key else "",
        f", {line.retries} retries" if line.retries else "",
        f", {line.error}" if line.error else "",
        f" {line.request_id}",
        f"\n  {line.request}" if line.request else "",
    )
    return "".join(parts).encode() + b"\n"
