"""The client that engines are asked with, against real sockets that answer in every wrong way."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from serve.gateway.errors import EngineDroppedError, EngineFailedError, EngineUnreachableError
from serve.gateway.upstream import pool as upstream_file
from serve.gateway.upstream.pool import Upstream
from serve.gateway.upstream.reply import MOST_UNREAD, Reply

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LENGTH = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\nhello, world"
)
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


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as opened:
        yield opened


@pytest.fixture
async def engine_that(stack: contextlib.AsyncExitStack) -> Any:
    async def start(script: Script, **where: Any) -> Engine:
        return await stack.enter_async_context(Engine(script).running(**where))

    return start


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


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, CONTINUED], ids=["length", "chunked", "100"])
async def test_an_answer_may_be_cut_anywhere(
    upstream: Upstream, answer: bytes, engine_that: Any
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(len(answer)):
            await read_request(reader)
            writer.write(answer[:at])
            await asyncio.sleep(0.0005)
            writer.write(answer[at:])

    engine = await engine_that(script)
    for _ in range(len(answer)):
        assert await text(upstream, engine.url) == b"hello, world"
    assert engine.connections == 1


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED, CONTINUED], ids=["length", "chunked", "100"])
async def test_an_answer_may_come_byte_by_byte(
    upstream: Upstream, answer: bytes, engine_that: Any
) -> None:
    engine = await engine_that(saying(answer, answer, pieces=1))
    for _ in range(2):
        reply = await ask(upstream, engine.url)
        assert (reply.status, reply.streams) == (200, answer is CHUNKED)
        assert await reply.body() == b"hello, world"
    assert engine.connections == 1


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 \r\nServer: x\r\n\r\n"],
)
async def test_a_body_may_last_until_the_end(
    upstream: Upstream, engine_that: Any, head: bytes
) -> None:
    engine = await engine_that(saying(head + b"hello, ", end="close", pieces=4))
    for _ in range(2):
        assert await text(upstream, engine.url) == b"hello, "
    assert engine.connections == 2
    reset = await engine_that(saying(head + b"hello, ", end="reset"))
    with pytest.raises(EngineDroppedError):
        await text(upstream, reset.url)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (LENGTH.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (LENGTH.replace(b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK\r\nconnection: keep-alive"), True),
        (LENGTH.replace(b"OK", b"OK\r\nConnection: close"), False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (LENGTH + b"\r\n", True),
        (LENGTH + LENGTH, False),
        (LENGTH + b"garbage", False),
    ],
)
async def test_what_keeps_a_connection(
    upstream: Upstream, engine_that: Any, answer: bytes, kept: bool
) -> None:
    engine = await engine_that(saying(answer, answer))
    for _ in range(2):
        assert await text(upstream, engine.url) in (b"hello, world", b"")
    assert engine.connections == (1 if kept else 2)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", EngineFailedError),
        (b"\x15\x03\x01\x00\x02\x02\x50", EngineFailedError),
        (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", EngineFailedError),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", EngineFailedError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", EngineFailedError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", EngineFailedError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", EngineFailedError),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9000, EngineFailedError),
    ],
)
async def test_what_is_not_http_is_an_error(
    upstream: Upstream, engine_that: Any, answer: bytes, error: Any
) -> None:
    engine = await engine_that(saying(answer, pieces=4096))
    with pytest.raises(error or EngineFailedError):
        await text(upstream, engine.url)
    async with asyncio.timeout(5):
        await engine.left.wait()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("answer", [LENGTH, CHUNKED], ids=["length", "chunked"])
async def test_an_end_in_any_phase_is_an_error(
    upstream: Upstream, engine_that: Any, answer: bytes, end: str
) -> None:
    head = answer.index(b"\r\n\r\n") + 4
    for at in (0, 1, 9, head - 1, head, head + 3, len(answer) - 1):
        engine = await engine_that(saying(answer[:at], end=end))
        with pytest.raises(EngineDroppedError):
            await text(upstream, engine.url)
        assert engine.connections == 1


async def test_what_came_before_the_end_is_read_first(upstream: Upstream, engine_that: Any) -> None:
    engine = await engine_that(saying(BEGUN, end="close"))
    reply = await ask(upstream, engine.url)
    assert await reply.chunk() == b"hello"
    with pytest.raises(EngineDroppedError):
        await reply.chunk()
    with pytest.raises(EngineDroppedError):
        await reply.chunk()


async def test_a_reader_that_lags_holds_the_engine_back(
    upstream: Upstream, engine_that: Any
) -> None:
    piece, sent = b"4000\r\n" + b"x" * 0x4000 + b"\r\n", 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(2000):
            writer.write(piece)
            await writer.drain()
            sent += 0x4000
        writer.write(b"0\r\n\r\n")
        await reader.readexactly(1)

    engine = await engine_that(script)
    reply = await ask(upstream, engine.url)
    before = -1
    while before != sent:  # until it stands still
        before = sent
        await asyncio.sleep(0.1)
    assert sent < 2000 * 0x4000
    assert len(await reply.chunk()) < MOST_UNREAD + (1 << 18)
    size = 0
    while part := await reply.chunk():
        size += len(part)
    assert size + before > 1500 * 0x4000
    assert sent == 2000 * 0x4000


async def test_an_answer_without_an_end_is_given_up(
    upstream: Upstream, engine_that: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    monkeypatch.setattr("serve.gateway.upstream.reply.LONGEST_BODY", 1 << 20)
    engine = await engine_that(script)
    with pytest.raises(EngineFailedError, match="too long"):
        await text(upstream, engine.url)
    async with asyncio.timeout(5):
        await engine.left.wait()


async def test_requests_arrive_as_they_were_meant(upstream: Upstream, engine_that: Any) -> None:
    heard = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heard.append(await read_request(reader))
            writer.write(LENGTH)

    engine = await engine_that(script)
    host = engine.url.split("/")[2].encode()
    body = b"x" * 3_000_000
    await text(upstream, engine.url, body=body, headers={"x-name": "\xe9t\xe9"})
    await text(upstream, engine.url + "?after=7&wait=2", body=None)
    assert heard == [
        b"POST /v1/x HTTP/1.1\r\nhost: " + host + b"\r\ncontent-length: 3000000\r\n"
        b"x-name: \xe9t\xe9\r\n\r\n" + body,
        b"GET /v1/x?after=7&wait=2 HTTP/1.1\r\nhost: " + host + b"\r\n\r\n",
    ]
    for value in ("a\r\nx: y", "a\nb", "a\rb"):
        with pytest.raises(ValueError, match="line break"):
            await ask(upstream, engine.url, headers={"x-name": value})


async def test_a_redirect_is_an_answer_like_any_other(upstream: Upstream, engine_that: Any) -> None:
    engine = await engine_that(
        saying(b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
    )
    assert (await ask(upstream, engine.url)).status == 307


@pytest.mark.parametrize(("value", "seconds"), [(b"7", 7), (b"soon", None), (b"9999999", None)])
async def test_when_to_come_back(
    upstream: Upstream, engine_that: Any, value: bytes, seconds: int | None
) -> None:
    answer = LENGTH.replace(b"200 OK", b"429 Busy\r\nRetry-After: " + value)
    engine = await engine_that(saying(answer))
    assert (await ask(upstream, engine.url)).retry_after == seconds


async def test_many_at_once_and_then_one_after_the_other(
    upstream: Upstream, engine_that: Any
) -> None:
    engine = await engine_that(saying(*[LENGTH] * 30))
    await asyncio.gather(*[text(upstream, engine.url) for _ in range(5)])
    opened = engine.connections
    assert opened == 5
    for _ in range(20):
        await text(upstream, engine.url)
    assert engine.connections == opened


async def test_an_idle_connection_is_closed_in_time(
    upstream: Upstream, engine_that: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_file, "ENGINE_KEEPALIVE_SECONDS", 0.05)
    engine = await engine_that(saying(LENGTH, LENGTH))
    await text(upstream, engine.url)
    async with asyncio.timeout(5):
        await engine.left.wait()
    assert not any(origin.idle or origin.busy for origin in upstream._origins.values())
    await text(upstream, engine.url)
    assert engine.connections == 2


async def test_a_kept_connection_that_the_engine_closed_is_not_used(
    upstream: Upstream, engine_that: Any
) -> None:
    engine = await engine_that(saying(LENGTH, end="close"))
    for _ in range(5):
        assert await text(upstream, engine.url) == b"hello, world"
    assert engine.connections == 5


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_kept_connection_that_ends_as_it_is_used_is_replaced_once(
    upstream: Upstream, engine_that: Any, end: str
) -> None:
    asked = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await read_request(reader)
        asked += 1
        writer.write(LENGTH)
        await read_request(reader)  # ends having read the second, which it does not answer
        asked += 1
        await saying(end=end)(reader, writer)

    engine = await engine_that(script)
    for _ in range(4):
        assert await text(upstream, engine.url) == b"hello, world"
    assert (engine.connections, asked) == (4, 7)


async def test_half_an_answer_over_a_kept_connection_is_not_asked_for_again(
    upstream: Upstream, engine_that: Any
) -> None:
    engine = await engine_that(saying(LENGTH, LENGTH[:9], end="close"))
    await text(upstream, engine.url)
    with pytest.raises(EngineDroppedError):
        await text(upstream, engine.url)
    assert engine.connections == 1


async def test_something_said_unasked_ends_a_kept_connection(
    upstream: Upstream, engine_that: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_file, "ENGINE_KEEPALIVE_SECONDS", 60)
    said = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(LENGTH)
        await said.wait()
        writer.write(b"HTTP/1.1 408 Timeout\r\ncontent-length: 0\r\n\r\n")
        await reader.readexactly(1)

    engine = await engine_that(script)
    await text(upstream, engine.url)
    said.set()
    async with asyncio.timeout(5):
        await engine.left.wait()
    assert await text(upstream, engine.url) == b"hello, world"


async def test_nobody_there(upstream: Upstream) -> None:
    for url in ("http://127.0.0.1:1/x", "http://[::1]:1/x", "http://no.such.host.invalid/x"):
        with pytest.raises(EngineUnreachableError):
            await ask(upstream, url)
    for url in ("http://127.0.0.1:99999/x", "ftp://127.0.0.1/x", "http://", "http://a..b/x"):
        with pytest.raises(EngineUnreachableError):
            await ask(upstream, url)


async def test_a_connection_is_waited_for_so_long(upstream: Upstream) -> None:
    with socket.socket() as full:  # a queue that takes no more answers nobody
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as opened:
            for _ in range(4):
                sock = opened.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}/x"
            with pytest.raises(EngineUnreachableError):
                await ask(upstream, url, connect_seconds=0.1)


@pytest.mark.parametrize("answer", [b"", LENGTH[:20], LENGTH[:-5]], ids=["head", "half", "body"])
async def test_a_reply_is_waited_for_so_long(
    upstream: Upstream, engine_that: Any, answer: bytes
) -> None:
    engine = await engine_that(saying(answer))
    with pytest.raises(TimeoutError):
        await text(upstream, engine.url, seconds=0.1)
    async with asyncio.timeout(5):
        await engine.left.wait()


async def test_silence_in_a_body_is_waited_for_so_long(
    upstream: Upstream, engine_that: Any
) -> None:
    engine = await engine_that(saying(BEGUN))
    reply = await ask(upstream, engine.url)
    reply.silence = 0.1
    assert await reply.chunk() == b"hello"
    with pytest.raises(TimeoutError):
        await reply.chunk()


@pytest.mark.parametrize("answer", [b"", LENGTH[:20], LENGTH[:-5]], ids=["head", "half", "body"])
async def test_who_leaves_is_noticed_by_the_engine(
    upstream: Upstream, engine_that: Any, answer: bytes
) -> None:
    arrived = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        arrived.set()
        await reader.readexactly(1)

    engine = await engine_that(script)
    asking = asyncio.create_task(text(upstream, engine.url))
    await arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(5):
        await engine.left.wait()


async def test_the_end_closes_everything(engine_that: Any) -> None:
    engine = await engine_that(saying(LENGTH[:-3]))
    async with Upstream() as upstream:
        reply = await ask(upstream, engine.url)
    with pytest.raises(EngineDroppedError):
        await reply.body()
    async with asyncio.timeout(5):
        await engine.left.wait()


async def test_ipv6(upstream: Upstream, engine_that: Any) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    try:
        engine = await engine_that(saying(LENGTH), host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback on this machine")
    assert await text(upstream, engine.url) == b"hello, world"


async def test_https(
    engine_that: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    certificate = make_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    engine = await engine_that(saying(CHUNKED, CHUNKED, pieces=7), tls=tls)
    with pytest.raises(EngineUnreachableError, match="certificate"):
        await ask(upstream, engine.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Upstream() as trusting:
        for _ in range(2):
            assert await text(trusting, engine.url) == b"hello, world"
        with pytest.raises(EngineUnreachableError, match="certificate"):
            await ask(trusting, engine.url.replace("127.0.0.1", "localhost"))
    assert engine.connections == 1
    plain = await engine_that(saying(LENGTH))
    with pytest.raises(EngineUnreachableError):
        await ask(upstream, plain.url.replace("http:", "https:"))


def make_certificate(folder: Path) -> Path:
    """A certificate and key for 127.0.0.1 that nobody else trusts."""
    x509 = pytest.importorskip("cryptography.x509", reason="needs the package cryptography")
    from ipaddress import ip_address

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
