"""The beginning of an engine's answer: its first events, or all of a whole one, validated.

Whatever is wrong up to here can still be retried on another replica. `reply` is the transport
below: the HTTP response as it arrives, without a look at its content.
"""

from __future__ import annotations

from time import monotonic as now  # which is what event loops count by

from serve.gateway.answers import answer, engine_error
from serve.gateway.answers.asked import Asked
from serve.gateway.answers.stream import EventStream
from serve.gateway.answers.usage import Usage
from serve.gateway.errors import EngineTimeoutError, GatewayError, NotOfferedError
from serve.gateway.order.assistant import Order
from serve.gateway.upstream.replicas import Replica
from serve.gateway.upstream.reply import Reply

NOT_THERE = (404, 405, 501)
"""How an engine says that it has no such path. All have those for answers; what else some have,
an assistant's may lack."""


class Delivery:
    """An order that an engine has begun to answer; closing it ends the engine's work on it."""

    def __init__(self, replica: Replica, reply: Reply) -> None:
        self.replica = replica
        self.reply = reply
        self.first = b""
        """The whole answer, or the first events of a stream."""
        self.events: EventStream | None = None
        self.told: Usage | None = None
        """The tokens of a whole answer."""

    @property
    def usage(self) -> Usage | None:
        """The tokens of the answer as far as it has come, whole or not."""
        return self.told if self.events is None else self.events.usage

    async def finish(self) -> None:
        """Let the connection serve another request, unless the engine still works on this one."""
        if self.events is None or not self.events.cut:
            await self.reply.finish()

    def close(self) -> None:
        self.replica.in_flight -= 1
        self.replica.used = now()
        self.reply.close()


async def begun(delivery: Delivery, order: Order) -> Delivery:
    """Wait until an answer has begun that is one; otherwise it is as if it had not been given."""
    reply = delivery.reply
    try:
        delivery.first = await _beginning(delivery, order)
    except BaseException as error:
        reply.close()
        if isinstance(error, GatewayError):
            error.engine_status = reply.status
            if error.retry_after is not None and reply.retry_after is not None:
                error.retry_after = reply.retry_after
        raise
    return delivery


async def _beginning(delivery: Delivery, order: Order) -> bytes:
    reply, asked = delivery.reply, order.asked
    if reply.status in NOT_THERE and order.read is not answer.whole:
        raise NotOfferedError(f"The engine of '{asked.assistant}' does not do this.")
    if reply.status != 200:
        raise engine_error.from_reply(asked.assistant, reply.status, await reply.body())
    if not (order.stream or asked.folded):
        first, delivery.told = order.read(await reply.body(), asked)
        return first
    if not reply.streams:
        raise engine_error.from_event(asked.assistant, await reply.body())
    delivery.events = EventStream(asked)
    return await _first_events(delivery.events, reply)


async def _first_events(events: EventStream, reply: Reply) -> bytes:
    """The first whole events. An engine that fails before them has not begun."""
    first = b""
    while not first and not events.failure:
        chunk = await reply.chunk()
        first = events.feed(chunk) if chunk else events.end()
    if events.failure and not first:
        raise events.failure
    return first


async def fold(delivery: Delivery, asked: Asked) -> None:
    """Put together, of the events of an answer that has begun, the whole one that is to be told;
    whoever makes its end, the engine's work is ended."""
    reply, events = delivery.reply, delivery.events
    assert events is not None
    parts = [delivery.first]
    try:
        while not events.over:
            chunk = await reply.chunk()
            parts.append(events.feed(chunk) if chunk else events.end())
        if events.failure:
            raise events.failure
        await delivery.finish()
    except TimeoutError:
        raise EngineTimeoutError(reply.why_late()) from None
    finally:
        reply.close()
    delivery.first, delivery.told = answer.folded(b"".join(parts), asked), events.usage
    delivery.events = None
