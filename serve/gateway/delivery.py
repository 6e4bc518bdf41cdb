"""An order reaches an engine: wait until one is ready, choose, try, and try elsewhere.

Everything here happens before the client has been sent a byte, so everything may be tried again,
within a budget. What comes after the first byte is no longer this file's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from assistants import Assistant
from assistants.schema import Start
from serve.gateway import engine_error
from serve.gateway.assistant import Order
from serve.gateway.engine_host import EngineHost
from serve.gateway.errors import (
    EngineDroppedError,
    EngineFailedError,
    EngineTimeoutError,
    GatewayError,
    NotReadyError,
)
from serve.gateway.replicas import Replica, Replicas, State
from serve.gateway.router import choose
from serve.gateway.settings import GatewaySettings
from serve.gateway.stream import EventStream
from serve.gateway.upstream import Reply, Upstream


class _Answer(msgspec.Struct):
    """The least an answer must have to be one."""

    choices: msgspec.Raw


_answer = msgspec.json.Decoder(_Answer)


class Delivery:
    """An order that an engine has begun to answer; closing it ends the engine's work on it."""

    def __init__(self, replica: Replica, reply: Reply) -> None:
        self.replica = replica
        self.reply = reply
        self.first = b""
        """The whole answer, or the first events of a stream."""
        self.events: EventStream | None = None

    def close(self) -> None:
        self.replica.in_flight -= 1
        self.reply.close()


class Deliverer:
    """Brings orders to engines."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        replicas: Replicas,
        upstream: Upstream,
        host: EngineHost | None,
    ) -> None:
        self._settings = settings
        self._replicas = replicas
        self._upstream = upstream
        self._host = host

    async def deliver(self, order: Order, headers: Mapping[str, str]) -> Delivery:
        """Find an engine that begins to answer; the caller closes what it is given.

        Raises:
            GatewayError: nobody could, or the engine refused; it says what the last one asked said.
        """
        name = order.assistant.name
        if not any(replica.ready for replica in self._replicas.of(name)):
            await self._become_ready(order.assistant)
        now = asyncio.get_running_loop().time
        until = now() + self._settings.total_seconds
        tried: list[Replica] = []
        failure: GatewayError | None = None
        for _ in range(self._settings.attempts):
            replica = choose(self._replicas.of(name), avoid=tried, now=now())
            fresh = replica is None and isinstance(failure, EngineDroppedError)
            if fresh:  # the only one there is: perhaps just its kept connection was stale
                replica = tried[-1]
            if replica is None or now() >= until:
                break
            try:
                patience = self._patience(order, until - now())
                return await self._try(replica, order, headers, patience=patience, fresh=fresh)
            except GatewayError as error:
                if not error.elsewhere:
                    raise
                failure = error
                replica.rests_until = now() + self._settings.rest_seconds
                if fresh:
                    break
                tried.append(replica)
        raise failure or self._not_ready(name)

    async def _try(
        self,
        replica: Replica,
        order: Order,
        headers: Mapping[str, str],
        *,
        patience: float,
        fresh: bool,
    ) -> Delivery:
        replica.in_flight += 1
        replica.asked += 1
        try:
            async with asyncio.timeout(patience):
                url = replica.url + order.path
                reply = await self._upstream.post(url, order.body, headers, fresh=fresh)
                delivery = await _begun(Delivery(replica, reply), order)
        except BaseException as error:
            replica.in_flight -= 1
            replica.unanswered += 1
            if isinstance(error, TimeoutError):
                raise EngineTimeoutError(
                    f"The engine of '{order.assistant.name}' gave no answer in {patience:.3g} s."
                ) from None
            raise
        replica.unanswered = 0
        return delivery

    def _patience(self, order: Order, left: float) -> float:
        """A whole answer begins when it is complete, so only a stream has a first byte to wait
        for; all tries together have no longer than one request may take."""
        return min(self._settings.first_byte_seconds, left) if order.stream else left

    async def _become_ready(self, assistant: Assistant) -> None:
        """Start what is started on demand and wait for it.

        Raises:
            NotReadyError: it is not of that kind, or did not become ready.
        """
        name = assistant.name
        if assistant.start is not Start.on_demand or self._host is None:
            raise self._not_ready(name)
        await self._host.start(name)
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                while (state := self._replicas.state(name)) is not State.ready:
                    if state is State.failed:
                        raise self._not_ready(name)
                    await self._replicas.change()
        except TimeoutError:
            raise self._not_ready(name) from None

    def _not_ready(self, name: str) -> NotReadyError:
        state, reason = self._replicas.state(name), self._replicas.reason(name)
        why = f": {reason}" if reason else "."
        return NotReadyError(f"The engine of '{name}' is {state.value}{why}")


async def _begun(delivery: Delivery, order: Order) -> Delivery:
    """Wait until an answer has begun that is one; otherwise it is as if it had not been given."""
    try:
        delivery.first = await _beginning(delivery, order)
    except BaseException:
        delivery.reply.close()
        raise
    return delivery


async def _beginning(delivery: Delivery, order: Order) -> bytes:
    reply, name = delivery.reply, order.assistant.name
    if reply.status != 200:
        raise engine_error.from_reply(name, reply.status, await reply.body())
    if not order.stream:
        return _checked(name, await reply.body())
    if not reply.streams:
        raise engine_error.from_event(name, await reply.body())
    delivery.events = EventStream(name)
    return await _first_events(delivery.events, reply)


def _checked(name: str, body: bytes) -> bytes:
    """An answer under 200 that is none must not reach a client as one."""
    try:
        _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = engine_error.read(body).message
        raise EngineFailedError(f"The engine of '{name}' gave no answer: {said}") from None
    return body


async def _first_events(events: EventStream, reply: Reply) -> bytes:
    """The first whole events. An engine that fails before them has not begun."""
    first = b""
    while not first and not events.failure:
        chunk = await reply.chunk()
        first = events.feed(chunk) if chunk else events.end()
    if events.failure and not first:
        raise events.failure
    return first
