"""The hot path: one request for a completion, from the client's bytes to an engine's and back.

A bare ASGI endpoint: routing, middleware, validation and responses of a framework would cost as
much again as all the rest, and hide that a client has left.
"""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.types import Receive, Scope, Send

from serve.gateway.admission import Admission
from serve.gateway.assistant import Desk, Order, Surface
from serve.gateway.delivery import Deliverer, Delivery
from serve.gateway.errors import (
    ClientLeftError,
    DrainingError,
    EngineTimeoutError,
    GatewayError,
    InternalError,
)
from serve.gateway.exchange import Exchange
from serve.gateway.settings import GatewaySettings
from serve.gateway.stream import EventStream
from serve.gateway.upstream import Reply

access = logging.getLogger("hanlin.access")
log = logging.getLogger("hanlin.gateway")

CLIENT_LEFT = 499
"""What the access log says of a client that left; nginx made the number known."""

GRAIN_SECONDS = 0.5
"""How exact the time between events is kept: moving a timer for each token would cost more than
passing the token on."""


class Completion:
    """The endpoint of one surface."""

    def __init__(
        self,
        surface: Surface,
        *,
        settings: GatewaySettings,
        desk: Desk,
        admission: Admission,
        deliverer: Deliverer,
    ) -> None:
        self._surface = surface
        self._settings = settings
        self._desk = desk
        self._admission = admission
        self._deliverer = deliverer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        order: Order | None = None
        try:
            order = self._desk.order(
                self._surface, await exchange.body(self._settings.max_body_bytes)
            )
            with exchange:
                await self._serve(exchange, order)
        except GatewayError as error:
            await exchange.fail(error)
        except ClientLeftError:
            exchange.status = CLIENT_LEFT
        except asyncio.CancelledError:  # the server's patience with a drain has ended
            await exchange.fail(DrainingError("The gateway is being stopped."))
        except Exception:  # the one place: whatever it is, the client gets a sentence
            log.exception("request %s", exchange.request_id.decode())
            await exchange.fail(InternalError("The gateway made a mistake; its log says which."))
        if self._settings.access_log:
            self._note(exchange, order)

    async def _serve(self, exchange: Exchange, order: Order) -> None:
        gate = self._admission.gate(order.assistant.name)
        await gate.enter()
        try:
            headers = {"content-type": "application/json", **exchange.passed_on}
            delivery = await self._deliverer.deliver(order, headers)
            try:
                await self._hand_over(exchange, delivery)
            finally:
                delivery.close()
        finally:
            gate.leave()

    async def _hand_over(self, exchange: Exchange, delivery: Delivery) -> None:
        if delivery.events is None:
            await exchange.answer(delivery.first)
            return
        await exchange.begin(delivery.first)
        last = await self._pass_on(exchange, delivery.events, delivery.reply)
        await exchange.end(last)
        await delivery.reply.finish()

    async def _pass_on(self, exchange: Exchange, events: EventStream, reply: Reply) -> bytes:
        """Pass events on until the engine has ended, and return the last of them.

        Raises:
            GatewayError: the engine failed, or was silent for too long.
        """
        clock = asyncio.get_running_loop().time
        silence = self._settings.between_seconds
        total = clock() + self._settings.total_seconds
        passing = b""
        try:
            async with asyncio.timeout_at(clock() + silence) as patience:
                while not events.over():
                    if passing:
                        await exchange.pass_on(passing)
                    chunk = await reply.chunk()
                    passing = events.feed(chunk) if chunk else events.end()
                    if (until := clock() + silence) - (patience.when() or 0) > GRAIN_SECONDS:
                        patience.reschedule(min(until, total))
        except TimeoutError:
            raise EngineTimeoutError("The engine was silent for too long.") from None
        if events.failure:
            await exchange.pass_on(passing)
            raise events.failure
        return passing

    def _note(self, exchange: Exchange, order: Order | None) -> None:
        access.info(
            "%s %s %d %.1f ms%s%s %s",
            order.assistant.name if order else "-",
            self._surface.name,
            exchange.status,
            (time.perf_counter() - exchange.started) * 1000,
            " stream" if exchange.streams else "",
            f" {exchange.failure.code or exchange.failure.type}" if exchange.failure else "",
            exchange.request_id.decode(),
        )
