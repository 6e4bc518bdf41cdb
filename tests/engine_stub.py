"""A stand-in engine that fails on purpose: what a real one does once a month, on every run.

In a test it runs in the test's own loop and says what it saw; as a process
(`python -m tests.engine_stub --port 9000 --tokens-per-second 50`) it stands behind a gateway that
runs by itself. `plan` may be replaced between requests. It speaks HTTP by hand, because a proper
server would not let it break the protocol.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.engine_stub_answers import answer, as_event, delta, words
from tests.engine_stub_wire import Seen, Wire, read, reset

Death = Literal["reset", "close", "half", "error", "no_done"]
"""How a stream ends early: connection reset; closed without the last chunk; closed in the middle of
an event; an error event; or in order, but without `[DONE]`."""

LMDEPLOY_ERROR = (
    b'{"message":"Input length (3031) must be smaller than the model context length (2048).",'
    b'"type":"invalid_request_error","code":400,"param":null,"object":"error"}'
)
LLAMACPP_ERROR = (
    b'{"error":{"code":400,"message":"the request exceeds the available context size",'
    b'"type":"exceed_context_size_error","n_prompt_tokens":900,"n_ctx":256}}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the engine does with the next requests."""

    tokens: int = 5
    tokens_per_second: float = 0
    """0: as fast as it can."""
    load_seconds: float = 0
    """For so long after it started it answers 503."""
    status: int = 200
    body: bytes = b""
    """The body of an answer that is not 200, or instead of the answer where `raw` says so."""
    kind: str = "application/json"
    raw: bool = False
    hang: Literal["", "head", "first", "middle"] = ""
    """Silent for ever: before the head, before the first event, or after `die_after` tokens."""
    die: Literal["", "head"] | Death = ""
    die_after: int = 3
    stale: bool = False
    """Closes each connection right after its first answer, having promised to keep it."""
    split: int = 0
    """Sends its bytes in pieces of this size."""
    finish: str | None = "stop"
    server: str = ""
    """What it calls itself in the head of an answer."""
    error_event: bytes = b'{"error":{"message":"CUDA out of memory","type":"server_error"}}'
    times: int | None = None
    """How many requests this plan holds for; afterwards all is well."""


@dataclass(eq=False)
class EngineStub:
    """One stand-in engine on a free port of this machine."""

    plan: Plan = Plan()
    port: int = 0
    requests: list[Seen] = field(default_factory=list)
    aborted: list[Seen] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    """Requests that are being worked on."""
    tokens: int = 0
    """Tokens streamed to anybody."""

    def __post_init__(self) -> None:
        self.changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until(self, holds: Any, seconds: float = 10) -> None:
        """Wait until `holds(self)`."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(lambda: holds(self))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[EngineStub]:
        self._started = asyncio.get_running_loop().time()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:  # the test is over
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen = await read(reader)
            self.requests.append(seen)
            await self._tell(opened=1)
            answering = asyncio.create_task(self._answer(seen, writer))
            gone = asyncio.create_task(reader.read(1))  # a client that waits sends nothing
            try:
                await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
                if not answering.done() or answering.exception():
                    self.aborted.append(seen)
                    return
                if not answering.result():
                    return
            finally:
                await _end(answering)
                await _end(gone)
                await self._tell(opened=-1)

    async def _tell(self, *, opened: int) -> None:
        self.open += opened
        async with self.changed:
            self.changed.notify_all()

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        plan = self._next_plan()
        wire = Wire(writer, plan.split, plan.server)
        if plan.hang == "head":
            await asyncio.Event().wait()
        if plan.die == "head":
            return reset(writer)
        if seen.path == "/health" or seen.method == "GET":
            await wire.whole(
                503 if self._loading() else 200, "application/json", b'{"status":"ok"}'
            )
        elif self._loading():
            await wire.whole(503, "application/json", b'{"error":{"message":"Loading model"}}')
        elif plan.status != 200 or plan.raw:
            await wire.whole(plan.status, plan.kind, plan.body)
        elif seen.path.endswith("/count_tokens"):
            await wire.whole(200, "application/json", b'{"input_tokens":3}')
        elif seen.json.get("stream"):
            return await self._stream(seen, plan, wire) and not plan.stale
        else:
            return await self._whole(seen, plan, wire) and not plan.stale
        return not plan.stale

    def _loading(self) -> bool:
        return asyncio.get_running_loop().time() < self._started + self.plan.load_seconds

    def _next_plan(self) -> Plan:
        plan = self.plan
        if plan.times is not None:
            left = plan.times - 1
            self.plan = dataclasses.replace(plan, times=left) if left else Plan()
        return plan

    async def _whole(self, seen: Seen, plan: Plan, wire: Wire) -> bool:
        if plan.tokens_per_second:
            await asyncio.sleep(plan.tokens / plan.tokens_per_second)
        text = "".join(words(plan.tokens))
        body = json.dumps(answer(seen, text, plan.finish)).encode()
        if plan.die in ("reset", "close"):
            await wire.head(200, "application/json", len(body))
            await wire.send(body[: len(body) // 2])
            return reset(wire.writer) if plan.die == "reset" else False
        await wire.whole(200, "application/json", body)
        return True

    async def _stream(self, seen: Seen, plan: Plan, wire: Wire) -> bool:
        await wire.stream("text/event-stream")
        if plan.hang == "first":
            await asyncio.Event().wait()
        for number, word in enumerate(words(plan.tokens)):
            event = as_event(delta(seen, word, None))
            if plan.die and number == plan.die_after:
                return await self._die(plan, wire, event)
            if plan.hang == "middle" and number == plan.die_after:
                await asyncio.Event().wait()
            await wire.chunk(event)
            self.tokens += 1
            if plan.tokens_per_second:
                await asyncio.sleep(1 / plan.tokens_per_second)
        if plan.finish:
            await wire.chunk(as_event(delta(seen, "", plan.finish)))
        if plan.die != "no_done":
            await wire.chunk(b"data: [DONE]\n\n")
        await wire.send(b"0\r\n\r\n")
        return True

    async def _die(self, plan: Plan, wire: Wire, event: bytes) -> bool:
        if plan.die == "reset":
            return reset(wire.writer)
        if plan.die == "half":
            await wire.chunk(event[: len(event) // 2])
        elif plan.die == "error":
            await wire.chunk(b"data: " + plan.error_event + b"\n\ndata: [DONE]\n\n")
            await wire.send(b"0\r\n\r\n")
        elif plan.die == "no_done":
            await wire.send(b"0\r\n\r\n")
        return False


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, ConnectionError):
        await task


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    for option in dataclasses.fields(Plan):
        flag = "--" + option.name.replace("_", "-")
        if isinstance(option.default, bool):
            parser.add_argument(flag, action="store_true")
        elif option.name == "times":
            parser.add_argument(flag, type=int)
        else:
            kind = (
                (lambda text: text.encode())
                if isinstance(option.default, bytes)
                else type(option.default)
            )
            parser.add_argument(flag, type=kind, default=option.default)
    return parser.parse_args()


async def _main() -> None:
    given = vars(_arguments())
    port = given.pop("port")
    async with EngineStub(Plan(**given), port=port).running() as engine:
        print(engine.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
