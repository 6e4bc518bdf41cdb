"""One engine process under supervision: acts out what `serve.engines.course` decides."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from assistants.errors import HanlinError
from assistants.schema import Assistant, Start
from serve.engines import course as courses
from serve.engines.course import Course, Policy, State
from serve.engines.engine import Engine
from serve.ports import LOOPBACK, free_port
from serve.process import Log, Process, ending


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica finds what it serves and leaves what it has to say."""

    workspace: Path
    log: Path


class Replica:
    """The engine of one assistant, kept up for as long as `run` runs."""

    def __init__(
        self,
        assistant: Assistant,
        engine: Engine,
        place: Place,
        *,
        policy: Policy,
        changed: Callable[[], None],
    ) -> None:
        self.assistant = assistant
        self.course = Course()
        self._engine = engine
        self._place = place
        self._policy = policy
        self._changed = changed
        self._asked = asyncio.Event()
        self._process: Process | None = None
        self._url = ""

    def ask(self) -> None:
        """Start it if it is stopped, and look again for a workspace that was missing."""
        if not self.course.endings:  # a back-off is not for clients to cut short
            self._asked.set()
        self._become(courses.asked(self.course))

    async def run(self) -> None:
        """Keep it up, for ever; cancel and then `stop`."""
        if self.assistant.start is Start.at_once:
            self.ask()
        await self._asked.wait()
        while True:
            self._become(await self._live())
            self._asked.clear()
            wait = courses.wait_before(self.course, self._policy, random.random())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), wait)

    async def stop(self) -> None:
        """Let requests in flight finish, then end the process."""
        self._become(courses.stopping(self.course))
        if self._process is not None:
            if self.course.state is State.draining:
                await self._drain()
            await self._process.stop(self._policy.grace)
        self._become(Course(restarts=self.course.restarts))

    def report(self) -> dict[str, Any]:
        """What the host tells of it."""
        return {
            "assistant": self.assistant.name,
            "url": self._url,
            "state": self.course.state.value,
            "restarts": self.course.restarts,
            "reason": self.course.reason,
            "log": self._process.tail() if self._process else [],
            "engine": self._engine.name,
        }

    async def _live(self) -> Course:
        """One life of the process, from its start to the course its end leads to."""
        port = free_port()
        try:
            command = self._engine.command(self.assistant, self._place.workspace, port)
            log = Log(self._place.log)
            self._process = await Process.start(command, log, grace=self._policy.grace)
        except HanlinError as error:
            return courses.unstartable(self.course, str(error))
        self._url = f"http://{LOOPBACK}:{port}"
        ready_at: list[float] = []
        problem = await self._until_it_ends(self._process, ready_at)
        served = time.monotonic() - ready_at[0] if ready_at else 0.0
        self._url = ""
        reason = f"The engine of '{self.assistant.name}' {problem}."
        return courses.ended(self.course, reason, served=served, policy=self._policy)

    async def _until_it_ends(self, process: Process, ready_at: list[float]) -> str:
        """Watch it; what stops answering is killed. Returns what happened to it."""
        exit_code = asyncio.create_task(process.wait())
        watch = asyncio.create_task(self._watch(process, ready_at))
        try:
            await asyncio.wait({exit_code, watch}, return_when=asyncio.FIRST_COMPLETED)
            if exit_code.done():
                return ending(exit_code.result())
            await process.stop(0)
            return watch.result()
        finally:
            for task in (exit_code, watch):
                task.cancel()
            await asyncio.gather(exit_code, watch, return_exceptions=True)

    async def _watch(self, process: Process, ready_at: list[float]) -> str:
        """Returns when it has stopped answering, with what to say of it."""
        async with self._client() as client:
            try:
                async with asyncio.timeout(self._policy.load):
                    await self._first_token(client)
            except TimeoutError:
                return f"wrote no first token within {self._policy.load:g} seconds"
            ready_at.append(time.monotonic())
            self._become(courses.generated(self.course))
            while not courses.hangs(self.course, self._policy):
                await asyncio.sleep(self._policy.probe_every)
                alive = await self._engine.alive(client)
                self.course = courses.probed(self.course, alive=alive)
                process.log.trim()
            return f"hung (no answer to {self._policy.misses} health checks in a row)"

    async def _first_token(self, client: httpx.AsyncClient) -> None:
        # Another process can only be asked, hence no event to wait for here and below.
        while not await self._engine.first_token(client, self.assistant.name):  # noqa: ASYNC110
            await asyncio.sleep(self._policy.poll_loading)

    async def _drain(self) -> None:
        """Wait until nothing is in flight, as long as the policy allows."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._policy.drain), self._client() as client:
                while await self._engine.busy(client):  # noqa: ASYNC110
                    await asyncio.sleep(self._policy.poll_loading)

    def _client(self) -> httpx.AsyncClient:
        # Plain HTTP on loopback: no proxy of the environment, and no certificates to load.
        return httpx.AsyncClient(
            base_url=self._url,
            timeout=self._policy.probe_timeout,
            trust_env=False,
            verify=False,
        )

    def _become(self, course: Course) -> None:
        if course != self.course:
            self.course = course
            self._changed()
