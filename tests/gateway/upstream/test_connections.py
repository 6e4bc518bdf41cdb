"""Connections: made, kept, used again, found closed, given up in time, and encrypted."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from serve.gateway.errors import EngineDroppedError, EngineUnreachableError
from serve.gateway.upstream import pool as upstream_file
from serve.gateway.upstream.pool import Upstream
from tests.gateway.upstream.sockets import (
    BEGUN,
    CHUNKED,
    CLOSING,
    LENGTH,
    ask,
    nobody_accepts,
    read_request,
    saying,
    text,
)


async def test_many_at_once_and_then_one_after_the_other(
    upstream: Upstream, engine_that: Any
) -> None:
    engine = await engine_that(saying(*[LENGTH] * 30))
    await asyncio.gather(*[text(upstream, engine.url) for _ in range(5)])
    opened = engine.connections
    assert opened == 5
    (origin,) = upstream._origins.values()
    used_last = origin.idle[-1]
    for _ in range(20):
        await text(upstream, engine.url)
        assert origin.idle[-1] is used_last  # the others grow old, and are closed
    assert engine.connections == opened


async def test_an_engine_that_is_gone_is_forgotten(upstream: Upstream, engine_that: Any) -> None:
    stays = await engine_that(saying(LENGTH, LENGTH))
    await text(upstream, stays.url)
    for _ in range(3):
        await text(upstream, (await engine_that(saying(CLOSING))).url)
    await text(upstream, stays.url)
    assert (len(upstream._origins), stays.connections) == (2, 1)


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


@pytest.mark.parametrize(("connect", "whole"), [(0.1, 60), (60, 0.1)])
async def test_a_connection_is_waited_for_so_long(
    upstream: Upstream, connect: float, whole: float
) -> None:
    with nobody_accepts() as port:
        url = f"http://127.0.0.1:{port}/x"
        async with asyncio.timeout(30):
            with pytest.raises(EngineUnreachableError):
                await ask(upstream, url, connect_seconds=connect, seconds=whole)


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
