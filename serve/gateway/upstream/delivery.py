"""Delivers a request to an engine: waits for a ready one, chooses, tries, retries elsewhere.

Everything here happens before the client has been sent a byte, so everything may be tried again,
within a budget. What comes after the first byte is no longer this file's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic as now  # which is what event loops count by

from assistants import Assistant
from serve.gateway.errors import (
    EngineDroppedError,
    EngineTimeoutError,
    EngineUnreachableError,
    GatewayError,
)
from serve.gateway.order.assistant import Order
from serve.gateway.order.kind import SERVERS
from serve.gateway.settings import GatewaySettings
from serve.gateway.upstream.affinity import affinity
from serve.gateway.upstream.beginning import Delivery, begun, fold
from serve.gateway.upstream.breaker import REST_SECONDS, Breaker
from serve.gateway.upstream.budget import Budget
from serve.gateway.upstream.deadline import NEVER
from serve.gateway.upstream.engine_host import EngineHost
from serve.gateway.upstream.pool import Upstream
from serve.gateway.upstream.readiness import Readiness, Still
from serve.gateway.upstream.replicas import Replica, Replicas
from serve.gateway.upstream.router import choose

SESSION = "x-session-id"
"""By which a client may say which of its requests belong together."""


@dataclass(slots=True)
class Trail:
    """The way an order took, whether it arrived or not."""

    tries: int = 0
    replica: str | None = None
    """Where it was tried last."""
    seconds: float = 0.0
    """How long engines had it until one began to answer."""
    arrived: Delivery | None = None
    """Where it arrived, if it did."""


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
        self._readiness = Readiness(settings, replicas, host)
        self._budgets: dict[str, Budget] = {}

    def drain(self) -> None:
        """The gateway is to end: nobody waits for an engine any more."""
        self._readiness.close()

    async def deliver(
        self,
        order: Order,
        headers: Mapping[str, str],
        trail: Trail,
        *,
        still: Still | None = None,
    ) -> Delivery:
        """Find an engine that begins to answer; the caller closes what it is given. `still` is told
        from time to time that an engine has yet to be ready, and why.

        Raises:
            GatewayError: nobody could, or the engine refused; it says what the last one asked said.
        """
        assistant, readiness = order.assistant, self._readiness
        await readiness.wait(assistant, still)
        until = now() + assistant.timeouts.total
        try:
            return await self._anywhere(order, headers, trail, until=until)
        except (EngineDroppedError, EngineUnreachableError):
            # It died, and nobody else is there. Its host knows in a moment, and starts another.
            if trail.replica is None or not await readiness.news(assistant, trail.replica):
                raise
        await readiness.wait(assistant, still)
        return await self._anywhere(order, headers, trail, until=until)

    async def _anywhere(
        self, order: Order, headers: Mapping[str, str], trail: Trail, *, until: float
    ) -> Delivery:
        assistant = order.assistant
        budget = self._budget(assistant)
        tried: list[Replica] = []
        failure: GatewayError | None = None
        while (replica := self._next(order, headers, tried, failure)) is not None:
            trail.tries, trail.replica, began = trail.tries + 1, replica.url, now()
            try:
                trail.arrived = await self._try(replica, order, headers, until=until)
                return trail.arrived
            except GatewayError as error:
                if not error.elsewhere:
                    raise
                failure = error
                tried.append(replica)
            finally:
                trail.seconds += now() - began
            if now() >= until or not budget.spend(now()):
                break
        raise failure or self._readiness.lacking(assistant.name)

    def _next(
        self,
        order: Order,
        headers: Mapping[str, str],
        tried: Sequence[Replica],
        failure: GatewayError | None,
    ) -> Replica | None:
        """Where to try now, or None where it has been tried enough."""
        if len(tried) >= self._settings.attempts:
            return None
        replicas = self._replicas.of(order.assistant.name)
        alike = affinity(headers.get(SESSION), order.body) if len(replicas) > 1 else b""
        replica = choose(replicas, avoid=tried, now=now(), affinity=alike)
        if replica is None and len(tried) == 1 and isinstance(failure, EngineDroppedError):
            return tried[0]  # the only one there is; perhaps it has just been started anew
        return replica

    async def _try(
        self, replica: Replica, order: Order, headers: Mapping[str, str], *, until: float
    ) -> Delivery:
        replica.in_flight += 1
        replica.used = now()
        replica.asked += 1
        replica.breaker.asked()
        try:
            delivery = await self._begin(replica, order, headers, until=until)
        except BaseException as error:
            replica.in_flight -= 1
            replica.unanswered += 1
            _judge(replica.breaker, error, now())
            raise
        replica.unanswered = 0
        replica.breaker.answered(now())
        return delivery

    async def _begin(
        self, replica: Replica, order: Order, headers: Mapping[str, str], *, until: float
    ) -> Delivery:
        """Ask one replica and wait until it has begun to answer. A whole answer begins when it is
        complete; one that is a stream only so that the engine notices who leaves is no different,
        or it could not wait as long for its turn in the engine's own queue."""
        timeouts, began = order.assistant.timeouts, now()
        watched = order.stream or order.asked.stops is not None
        patience = min(until, began + timeouts.first_byte) if watched else until
        try:
            reply = await self._upstream.ask(
                replica.url + order.path,
                order.body,
                headers,
                connect_seconds=timeouts.connect,
                until=patience,
            )
            if replica.engine is None:
                replica.seen = SERVERS.get(reply.headers.get(b"server", b""))
            delivery = await begun(Delivery(replica, reply), order)
        except TimeoutError:
            raise EngineTimeoutError(
                f"The engine of '{order.assistant.name}' gave no answer in "
                f"{patience - began:.3g} s."
            ) from None
        reply.until, reply.silence = until, timeouts.between if watched else NEVER
        if order.asked.folded:
            await fold(delivery, order.asked)
        return delivery

    def _budget(self, assistant: Assistant) -> Budget:
        """The assistant's retries, with what this request adds to them."""
        budget = self._budgets.get(assistant.name)
        if budget is None:
            budget = Budget(assistant.limits.concurrency, now())
            self._budgets[assistant.name] = budget
        budget.earn()
        return budget


def _judge(breaker: Breaker, error: BaseException, now: float) -> None:
    """Let a replica's breaker know how a request to it ended. An engine that says no is well,
    whether to this request, to all at this time, or to a gateway without its key."""
    if not isinstance(error, GatewayError):
        breaker.unknown()
    elif not error.elsewhere:
        breaker.answered(now)
    elif error.engine_status is not None and 400 <= error.engine_status < 500:
        breaker.answered(now, rest_seconds=error.retry_after or REST_SECONDS)
    else:
        breaker.failed(now, rest_seconds=error.retry_after or 0)
