"""One completion request, from the client's bytes to an engine's reply and back.

A bare ASGI endpoint: routing, middleware, validation and responses of a framework would cost as
much again as all the rest, and hide that a client has left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from serve.engines_key import bearer
from serve.gateway.admission.gates import Admission
from serve.gateway.admission.keys import Keys
from serve.gateway.answers.stream import EventStream
from serve.gateway.errors import (
    ClientLeftError,
    DrainingError,
    EngineTimeoutError,
    GatewayError,
    InternalError,
)
from serve.gateway.exchange import CLIENT_LEFT, Exchange
from serve.gateway.order.assistant import Order, Rewriter
from serve.gateway.record.ledger import Ledger
from serve.gateway.record.visit import Visit
from serve.gateway.settings import GatewaySettings
from serve.gateway.strangers import Strangers
from serve.gateway.surfaces.dialects import DIALECTS, PLAIN
from serve.gateway.surfaces.retelling import Retold
from serve.gateway.surfaces.surface import Surface
from serve.gateway.upstream.beginning import Delivery
from serve.gateway.upstream.delivery import Deliverer
from serve.gateway.upstream.reply import Reply

log = logging.getLogger("hanlin.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The parts that a request passes through, in this order."""

    settings: GatewaySettings
    strangers: Strangers | None
    """None where requests without a key are refused anyway."""
    keys: Keys
    rewriter: Rewriter
    admission: Admission
    deliverer: Deliverer
    ledger: Ledger


class Completion:
    """The endpoint of one surface."""

    def __init__(self, surface: Surface, way: Way) -> None:
        self._surface = surface
        self._way = way
        self._dialect = DIALECTS.get(surface, PLAIN)
        self._headers = {
            "content-type": "application/json",
            **bearer(way.settings.engines_key),
            **self._dialect.to_engine,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        exchange.envelope = self._dialect.envelope
        if self._dialect.request_id is not None:
            exchange.headers.append((self._dialect.request_id, exchange.request_id))
        visit = self._way.ledger.begin(self._surface, exchange)
        try:
            if self._way.strangers is not None:
                self._way.strangers.keep_out(scope["headers"])
            visit.key = self._way.keys.visitor(exchange.credential)
            body = await exchange.body(self._way.settings.max_body_bytes)
            visit.order = self._way.rewriter.order(
                self._surface, body, sees=visit.key.sees, translate=self._dialect.translate
            )
            with exchange:
                await self._serve(visit, exchange, visit.order)
        except GatewayError as error:
            await exchange.fail(error)
        except ClientLeftError:
            exchange.status = CLIENT_LEFT
        except asyncio.CancelledError:  # the server's patience with a drain has ended
            await exchange.fail(DrainingError("The gateway is being stopped."))
        except Exception:  # the one place: whatever it is, the client gets a sentence
            log.exception("request %s", exchange.request_id.decode())
            await exchange.fail(InternalError("The gateway made a mistake; its log says which."))
        finally:
            await self._way.ledger.close(visit)

    async def _serve(self, visit: Visit, exchange: Exchange, order: Order) -> None:
        name, came = order.assistant.name, time.perf_counter()
        await self._way.admission.enter(visit.key, name, exchange.headers)
        try:
            visit.queued = time.perf_counter() - came
            if visit.trace is not None:
                visit.trace.ask(exchange, order, self._surface)
            headers = {**self._headers, **exchange.passed_on}
            still = exchange.still if order.stream else None
            if order.retelling is not None:
                exchange.ending = order.retelling.ending
            delivery = await self._way.deliverer.deliver(order, headers, visit.trail, still=still)
            try:
                await self._hand_over(visit, exchange, delivery)
            finally:
                delivery.close()
        finally:
            self._way.admission.leave(visit.key, name)

    async def _hand_over(self, visit: Visit, exchange: Exchange, delivery: Delivery) -> None:
        retelling = visit.order.retelling if visit.order is not None else None
        if delivery.events is None:
            visit.usage = delivery.usage
            await exchange.answer(
                delivery.first if retelling is None else retelling.whole(delivery.first)
            )
            return
        events: EventStream | Retold = delivery.events
        first = delivery.first
        if retelling is not None:
            events, first = Retold(delivery.events, retelling), retelling.feed(first)
        await exchange.begin(first)
        self._way.ledger.first_token(visit)
        try:
            last = await self._pass_on(exchange, events, delivery.reply)
        finally:
            visit.usage = delivery.usage
        await exchange.end(last)
        await delivery.finish()

    async def _pass_on(
        self, exchange: Exchange, events: EventStream | Retold, reply: Reply
    ) -> bytes:
        """Pass events on until the engine has ended, and return the last of them.

        Raises:
            GatewayError: the engine failed, or was silent for too long.
        """
        passing, pass_on_now = b"", exchange.pass_on_now

        def take(chunk: bytes) -> bool:
            nonlocal passing
            passing = events.feed(chunk)
            if events.over or (passing and not pass_on_now(passing)):
                return False
            passing = b""
            return True

        try:
            while not events.over:
                if passing:
                    await exchange.pass_on(passing)
                    passing = b""
                if await reply.pour(take):
                    passing = events.end()
        except TimeoutError:
            raise EngineTimeoutError(reply.why_late()) from None
        if events.failure:
            await exchange.pass_on(passing)
            raise events.failure
        return passing
