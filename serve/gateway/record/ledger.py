"""Records a finished request everywhere: rate limits, metrics, access log, spans."""

from __future__ import annotations

import time

from serve.gateway.admission.rates import Rates
from serve.gateway.exchange import Exchange
from serve.gateway.record.access_log import AccessLog
from serve.gateway.record.metrics import Metrics
from serve.gateway.record.tracing import Tracing
from serve.gateway.record.visit import Visit
from serve.gateway.surfaces.surface import Surface


class Ledger:
    """Opens an entry for a request when it comes, and closes it when it has ended."""

    def __init__(
        self,
        *,
        rates: Rates,
        metrics: Metrics,
        log: AccessLog | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._rates = rates
        self._metrics = metrics
        self._log = log
        self._tracing = tracing

    def begin(self, surface: Surface, exchange: Exchange) -> Visit:
        visit = Visit(surface, exchange)
        self._metrics.begin(visit)
        if self._tracing is not None:
            visit.trace = self._tracing.begin(exchange, surface)
        return visit

    def first_token(self, visit: Visit) -> None:
        """The first events of a stream were handed on; the rest may take minutes."""
        visit.first_byte = now = time.perf_counter()
        self._metrics.first_token(visit, now - visit.exchange.started)

    async def close(self, visit: Visit) -> None:
        """The client has its answer by now: nothing here makes it wait."""
        visit.end()
        self._metrics.take(visit)
        if self._log is not None:
            self._log.write(visit)
        if visit.trace is not None:
            visit.trace.end(visit)
        if visit.usage is not None:
            await self._rates.spend(visit.key, visit.usage.prompt + visit.usage.completion)
