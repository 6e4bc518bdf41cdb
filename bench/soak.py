"""The gateway for as long as one likes, before engines that fail and clients that leave.

    python -m bench.soak --minutes 60 [--write]

from the repository's root. Two engines: one is killed and started anew, the other hangs, breaks off
and refuses in turn. Its clients ask for everything there is, some leave early, some read slowly.
What is looked at is the gateway's memory and its open files, and that every answer ends as it
should. `--write` puts the figures into docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import linear_regression, mean
from typing import Any

import aiohttp
import psutil

from bench import tables
from bench.gateway import ROOT, running
from bench.paced_engine import MODEL
from bench.peers import HOUSE, KEY, ours
from bench.process import end_well
from serve.ports import free_port
from tests.engine_stub import Death, EngineStub, Plan

BEGIN = "<!-- python -m bench.soak --write -->"
TIMEOUTS = "\ntimeouts: {connect: 1, first_byte: 3, between: 2, total: 15}\n"
CLIENT_SECONDS = 40
"""Longer than all the gateway may take: whoever waits for so long has been forgotten."""
QUICK = Plan(tokens=40, tokens_per_second=100)
DEATHS: tuple[Death, ...] = ("reset", "close", "half", "error", "no_done")
PLANS = [
    QUICK, Plan(tokens=5), replace(QUICK, split=7), replace(QUICK, stale=True),
    Plan(hang="head"), Plan(hang="first"), replace(QUICK, hang="middle"),
    Plan(die="head"), *(replace(QUICK, die=death) for death in DEATHS),
    Plan(status=503, body=b"{}"), Plan(status=429, body=b"{}"), Plan(status=500, body=b"oh"),
    Plan(raw=True, body=b'{"choi'),
]  # fmt: skip
SAYS: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
ASKS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", SAYS),
    ("/v1/chat/completions", {**SAYS, "stop": ["word7 w", "never"]}),
    ("/v1/chat/completions", {**SAYS, "messages": [{"role": "user", "content": "y" * 100_000}]}),
    ("/v1/completions", {"model": "bench", "prompt": "x"}),
    ("/v1/responses", {"model": MODEL, "input": "x"}),
    ("/v1/messages", {**SAYS, "max_tokens": 40}),
    ("/v1/chat/completions", {"model": "nobody", "messages": []}),
    ("/v1/chat/completions", {"model": MODEL}),
]

ENDS = {
    "/v1/responses": (b"response.completed", b"response.failed", b"event: error"),
    "/v1/messages": (b"event: message_stop", b"event: error"),
}
"""How a stream may end; all others with `[DONE]`."""


@dataclass
class Soak:
    """One gateway under load, and what was seen of it."""

    url: str
    process: psutil.Process
    over: asyncio.Event = field(default_factory=asyncio.Event)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[float, float, int]] = field(default_factory=list)
    """Minutes, MiB, open files."""

    async def ask_on(self, http: aiohttp.ClientSession, chance: random.Random) -> None:
        """One client, until the end."""
        while not self.over.is_set():
            (path, body), streams = chance.choice(ASKS), chance.random() < 0.6
            body = {**body, "stream": streams}
            leaves = chance.uniform(0, 0.5) if chance.random() < 0.25 else None
            try:
                async with asyncio.timeout(leaves or CLIENT_SECONDS):
                    await self._ask(http, path, body, slow=chance.random() < 0.1)
            except TimeoutError:
                if leaves is None:
                    self.wrong[f"{path}: no end"] += 1
                self.answers["left"] += 1
            except aiohttp.ClientError as error:
                self.wrong[f"{path}: {type(error).__name__}"] += 1
            await asyncio.sleep(chance.uniform(0, 0.2))

    async def _ask(
        self, http: aiohttp.ClientSession, path: str, body: dict[str, Any], *, slow: bool
    ) -> None:
        async with http.post(self.url + path, json=body) as reply:
            text = b""
            async for piece in reply.content.iter_any():
                text += piece
                if slow:
                    await asyncio.sleep(0.05)
        self.answers[str(reply.status)] += 1
        streamed = reply.content_type == "text/event-stream"
        whole = not streamed or any(end in text[-4000:] for end in ENDS.get(path, (b"[DONE]",)))
        if not whole or reply.status == 500 or (reply.status == 404 and body["model"] != "nobody"):
            self.wrong[f"{path}: {reply.status} {text[-80:]!r}"] += 1

    async def watch(self, every: float) -> None:
        """Note memory and open files, and say them."""
        began = time.monotonic()
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), every)
            memory, files = self.process.memory_info().rss / 2**20, self.process.num_fds()
            minutes = (time.monotonic() - began) / 60
            self.samples.append((minutes, memory, files))
            print(f"{minutes:6.1f} min {memory:6.1f} MiB {files:4} files {dict(self.answers)} "
                  f"wrong {dict(self.wrong)}", flush=True)  # fmt: skip


async def killed(port: int, chance: random.Random, over: asyncio.Event) -> None:
    """An engine that is killed again and again, and started anew after a while."""
    plan = ["--tokens", "40", "--tokens-per-second", "100"]
    command = [sys.executable, "-m", "tests.engine_stub", "--port", str(port), *plan]
    while not over.is_set():
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), chance.uniform(5, 20))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), chance.uniform(0, 3))


async def capricious(engine: EngineStub, chance: random.Random, over: asyncio.Event) -> None:
    """An engine that changes its ways every few seconds."""
    while not over.is_set():
        engine.plan = chance.choice(PLANS)
        engine.requests.clear()
        engine.aborted.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), chance.uniform(1, 4))


async def soak(chosen: argparse.Namespace, folder: Path) -> Soak:
    chance, port = random.Random(chosen.seed), free_port()
    async with EngineStub().running() as engine:
        peer = ours(folder, port)
        both = f'"http://127.0.0.1:{port}", "{engine.url}"'
        text = HOUSE.replace('"ENGINE"', both) + TIMEOUTS
        (folder / "assistants" / f"{MODEL}.yaml").write_text(text, encoding="utf-8")
        with running(
            peer.command, port=peer.port, core=1, log=Path(os.devnull), environment={}
        ) as gateway:
            assert gateway.process is not None
            soak = Soak(f"http://127.0.0.1:{peer.port}", gateway.process)
            headers = {"authorization": f"Bearer {KEY}"}
            async with aiohttp.ClientSession(headers=headers) as http:
                works = [soak.ask_on(http, chance) for _ in range(chosen.clients)]
                works += [killed(port, chance, soak.over), capricious(engine, chance, soak.over)]
                asyncio.get_running_loop().call_later(chosen.minutes * 60, soak.over.set)
                await asyncio.gather(*works, soak.watch(chosen.every))
                await rest(soak, http)
    return soak


async def rest(soak: Soak, http: aiohttp.ClientSession) -> None:
    """Nothing may be under way once everybody has gone."""
    await asyncio.sleep(3)
    async with http.get(f"{soak.url}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    busy = [line for line in lines if line.startswith(("hanlin_in_flight", "hanlin_queue_length"))]
    for line in busy:
        if float(line.rpartition(" ")[2]):
            soak.wrong[line] += 1
    soak.samples.append((soak.samples[-1][0], soak.process.memory_info().rss / 2**20,
                         soak.process.num_fds()))  # fmt: skip


def report(soak: Soak, machine: str) -> Iterator[str]:
    """What became of memory and files, by quarters of the run."""
    *samples, (minutes, memory, files) = soak.samples
    yield f"Measured {machine}. {minutes:.0f} minutes, {soak.answers.total()} answers."
    yield "\n| part of the run | MiB, mean | MiB, most | open files, mean | most |"
    yield "|---|---|---|---|---|"
    for quarter in range(4):
        part = [s for s in samples if quarter <= s[0] / minutes * 4 <= quarter + 1] or samples
        sizes, counts = [s[1] for s in part], [s[2] for s in part]
        figures = f"{mean(sizes):.1f} | {max(sizes):.1f} | {mean(counts):.0f} | {max(counts)}"
        yield f"| quarter {quarter + 1} | {figures} |"
    yield f"| afterwards | {memory:.1f} | | {files} | |"
    late = [s for s in samples if s[0] > minutes / 2]
    if len(late) > 2:
        slope = linear_regression([s[0] / 60 for s in late], [s[1] for s in late]).slope
        yield f"\nIn its second half memory changed by {slope:+.2f} MiB an hour."
    told = ", ".join(f"{count} × {status}" for status, count in sorted(soak.answers.items()))
    wrong = ", ".join(f"{count} × {what}" for what, count in soak.wrong.items())
    yield f"Answers: {told}. Wrong: {wrong or 'none'}."


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=60)
    add("--clients", type=int, default=12)
    add("--every", type=float, default=10, help="seconds from one look to the next")
    add("--seed", type=int, default=0)
    add("--write", action="store_true", help="put the figures into docs/performance.md")
    end_well()
    chosen = parser.parse_args()
    machine = tables.machine()
    with tempfile.TemporaryDirectory(prefix="hanlin-soak-") as folder:
        found = asyncio.run(soak(chosen, Path(folder)))
    text = "\n".join(report(found, machine))
    print(text)
    if chosen.write:
        tables.write(BEGIN, text)


if __name__ == "__main__":
    main()
