"""The real `lmdeploy serve api_server`, with a class that recites where TurboMind needs a GPU.

    PYTHON_OF_LMDEPLOY reciting_turbomind.py MODEL [any option of `lmdeploy serve api_server`]

Everything but the engine itself is LMDeploy's: command line, routes, protocol, chat template,
tokenizer, sessions, detokenizer, health, metrics. Standard output tells what becomes of each
request, one `reciter: began|finished|cancelled SESSION TOKENS` a line; it ends when standard input
does, so it outlives no test.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import lmdeploy.cli.serve
import lmdeploy.turbomind
from lmdeploy.messages import (
    EngineEvent,
    EngineOutput,
    EventType,
    RequestMetrics,
    ResponseType,
    ScheduleMetrics,
)
from transformers import AutoTokenizer

POEM = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n"
SECONDS = 0.002
"""A token takes so long: a client can leave in the middle."""
FAILING_SEED = 500
"""Who asks with this seed sees the engine fail at its fourth token."""
HANGING_SEED = 501
"""Who asks with this one is given three tokens, and nothing more until they leave."""


class Reciter:
    """What AsyncEngine asks of a TurboMind."""

    is_dummy = False

    def __init__(self, folder: str, engine_config: Any) -> None:
        self.engine_config = engine_config
        self.poem = AutoTokenizer.from_pretrained(folder).encode(POEM, add_special_tokens=False)
        self.active = 0
        self.ticks = 0

    @classmethod
    def from_pretrained(cls, folder: str, *, engine_config: Any, **_: Any) -> Reciter:
        return cls(folder, engine_config)

    def create_instance(self, *_: Any) -> Recital:
        return Recital(self)

    def get_schedule_metrics(self) -> ScheduleMetrics:
        return ScheduleMetrics(active_seqs=self.active, scheduler_tick=self.ticks)

    async def get_health_status(self) -> dict[str, Any]:
        return {"alive": True, "message": "", "schedule_metrics": self.get_schedule_metrics()}

    async def sleep(self, *_: Any) -> None:
        pass

    def wakeup(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass


class Recital:
    """What AsyncEngine asks of a TurboMindInstance: one request at a time."""

    def __init__(self, reciter: Reciter) -> None:
        self._reciter = reciter
        self._cancelled = asyncio.Event()

    async def async_cancel(self, *_: Any) -> None:
        self._cancelled.set()

    async def async_end(self, *_: Any) -> None:
        pass

    async def async_stream_infer(
        self, session_id: int, *, gen_config: Any, **_: Any
    ) -> AsyncIterator[EngineOutput]:
        self._cancelled.clear()
        how, said = "cancelled", 0
        self._reciter.active += 1
        tell("began", session_id, said)
        events = [EngineEvent.new_event(kind) for kind in (EventType.QUEUED, EventType.SCHEDULED)]
        try:
            for token, last in _tokens(self._reciter.poem, gen_config):
                await asyncio.sleep(SECONDS)
                if gen_config.random_seed == FAILING_SEED and said == 3:
                    yield EngineOutput(ResponseType.INTERNAL_ENGINE_ERROR, [])
                    return
                if gen_config.random_seed == HANGING_SEED and said == 3:
                    await self._cancelled.wait()
                if self._cancelled.is_set():
                    yield EngineOutput(ResponseType.CANCEL, [])
                    return
                said, self._reciter.ticks = said + 1, self._reciter.ticks + 1
                how = "finished" if last else how
                status = ResponseType.FINISH if last else ResponseType.SUCCESS
                metrics = RequestMetrics(time.time(), events)
                yield EngineOutput(status, [token], req_metrics=metrics)
                events = []
        finally:
            self._reciter.active -= 1
            tell(how, session_id, said)


def _tokens(poem: list[int], config: Any) -> Iterator[tuple[int, bool]]:
    """Each token, and whether it is the last: the poem once, then the end, if that is not ignored.

    As TurboMind, any token among its stop tokens ends it, whatever text it is of.
    """
    stops = list(config.stop_token_ids or [])
    endless = config.ignore_eos or not stops
    recited = itertools.cycle(poem) if endless else itertools.chain(poem, stops[:1])
    for count, token in enumerate(recited, 1):
        last = count >= config.max_new_tokens or (not endless and token in stops)
        yield token, last
        if last:
            return


def tell(what: str, session: int, tokens: int) -> None:
    os.write(1, f"reciter: {what} {session} {tokens}\n".encode())


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def install() -> None:
    """Have it take the place of the class that needs a GPU, in this process."""
    lmdeploy.turbomind.is_available = lambda: True
    lmdeploy.turbomind.TurboMind = Reciter
    lmdeploy.cli.serve.get_max_batch_size = lambda _: 8  # it asks CUDA for the GPU's name


def main() -> None:
    install()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv[1:1] = ["serve", "api_server"]
    lmdeploy.cli.run()


if __name__ == "__main__":
    main()
