"""The gateway beside others, before the same engine that costs next to nothing.

    python -m bench.gateway [--peers ours,nginx,…] [--tools FOLDER] [--seconds 4] [--write]

from the repository's root; `bench/peers.py` says where the peers come from. Measured is the CPU
time of all processes of a gateway, which other work on the machine hardly moves: a request's, and
a token's in 64 streams. Each peer has one core to itself; engine and clients share another.
`--write` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil

from bench import tables
from bench.paced_engine import MODEL
from bench.peers import KEY, Peer, installed
from bench.process import end_well
from serve.ports import free_port

BEGIN = "<!-- python -m bench.gateway --write -->"
ROOT = Path(__file__).parent.parent
START_SECONDS = 120
WARM_SECONDS = 1.0
CELLS = (("json", 1), ("json", 64), ("big", 1), ("sse", 64))
Seen = dict[str, Any]
HEAD = """
| | ms a request, 1 client | 64 clients | 100 kB prompt | µs a token | p50 ms | token's way, ms | MiB | wrong |
|---|---|---|---|---|---|---|---|---|"""  # noqa: E501  # a table's row is one line


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose."""

    peers: tuple[str, ...]
    tools: Path | None
    seconds: float
    rounds: int
    write: bool


@dataclass
class Taken:
    """What one gateway took, a number for each round."""

    cpu: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    """Milliseconds a request, or microseconds a token."""
    p50: list[float] = field(default_factory=list)
    hop: list[float] = field(default_factory=list)
    memory: float = 0.0
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that runs, or with no process the engine itself."""

    port: int
    process: psutil.Process | None

    def all(self) -> list[psutil.Process]:
        return [] if self.process is None else [self.process, *self.process.children(True)]

    def cpu(self) -> float:
        times = [process.cpu_times() for process in self.all()]
        return sum(time.user + time.system for time in times)

    def memory(self) -> float:
        return sum(process.memory_info().rss for process in self.all()) / 2**20


def options() -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--peers", type=lambda text: tuple(text.split(",")), default=tuple(installed(None)))
    add("--tools", type=Path, help="the folder with the peers' environments")
    add("--seconds", type=float, default=4, help="of load for each figure")
    add("--rounds", type=int, default=3, help="of which the median is shown")
    add("--write", action="store_true", help="put the table into docs/performance.md")
    return Options(**vars(parser.parse_args()))


@contextlib.contextmanager
def running(
    command: list[str], *, port: int, core: int, log: Path, environment: dict[str, str]
) -> Iterator[Running]:
    """A process on one core until the end, listening."""
    with log.open("wb") as output:
        child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment},
                                 stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                 preexec_fn=lambda: _on_core(core))  # fmt: skip
    found = Running(port, psutil.Process(child.pid))
    try:
        _wait(f"http://127.0.0.1:{port}/health", child, log)
        yield found
    finally:
        every = found.all() if child.poll() is None else []
        child.terminate()
        psutil.wait_procs(every, timeout=5)
        for process in every:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        child.wait()


def _on_core(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def _wait(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    """Until something answers there, whatever it says."""
    until = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url, timeout=5)
            return
        if child.poll() is not None or time.monotonic() > until:
            sys.exit(f"{log.stem} did not start: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.1)


def begin(peer: Peer) -> None:
    """Tell a gateway where its engine is, and wait for a first answer through it."""
    url = f"http://127.0.0.1:{peer.port}"
    if peer.afterwards is not None:
        path, body = peer.afterwards
        httpx.post(url + path, json=body, timeout=20)
    asks = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    until, said = time.monotonic() + START_SECONDS, ""
    while time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            headers = {"authorization": f"Bearer {KEY}"}
            reply = httpx.post(f"{url}/v1/chat/completions", json=asks, headers=headers, timeout=20)
            if reply.status_code == 200:
                return
            said = reply.text[:300]
        time.sleep(0.3)
    sys.exit(f"{peer.command[0]} never answered: {said}")


def measure(peer: Running, engine: Running, cell: tuple[str, int], seconds: float) -> Seen:
    """One load on one gateway: what the clients saw, and the CPU seconds a request or a token."""
    mode, connections = cell
    before, cpu = _stats(engine), peer.cpu()
    said = _load(peer.port, mode, connections, seconds)
    done, cpu = _stats(engine), peer.cpu() - cpu
    what = "tokens" if mode == "sse" else "requests"
    return {**said, "each": cpu / max(1, done[what] - before[what])}


def _stats(engine: Running) -> dict[str, float]:
    found: dict[str, float] = httpx.get(f"http://127.0.0.1:{engine.port}/stats").json()
    return found


def _load(port: int, mode: str, connections: int, seconds: float) -> Seen:
    command = [sys.executable, "-m", "bench.load", str(port), KEY, mode, str(connections)]
    done = subprocess.run([*command, str(seconds)], cwd=ROOT, capture_output=True, check=True,
                          preexec_fn=lambda: _on_core(0))  # fmt: skip
    found: Seen = json.loads(done.stdout)
    return found


def take(taken: Taken, peer: Running, engine: Running, seconds: float) -> None:
    """One round on one gateway."""
    for cell in CELLS:
        measure(peer, engine, cell, WARM_SECONDS)
        seen = measure(peer, engine, cell, seconds)
        scale = 1e6 if cell[0] == "sse" else 1e3
        taken.cpu.setdefault(cell, []).append(seen["each"] * scale)
        taken.wrong += seen["wrong"]
        if seen["first_wrong"]:
            print(seen["first_wrong"], file=sys.stderr)
        if cell == ("json", 1):
            taken.p50.append(seen["p50_ms"])
        if cell[0] == "sse":
            taken.hop.append(seen["hop_ms"])
    taken.memory = max(taken.memory, peer.memory())


def row(name: str, taken: Taken, direct: Taken) -> str:
    """One line of the table; latencies are what a gateway adds."""
    cpu = [f"{median(taken.cpu[cell]):.{1 if cell[0] == 'sse' else 3}f}" for cell in CELLS]
    added = [median(taken.p50) - median(direct.p50), median(taken.hop) - median(direct.hop)]
    late = [f"{ms:.2f}" for ms in added]
    return f"| {' | '.join([name, *cpu, *late, f'{taken.memory:.0f}', str(taken.wrong)])} |"


def start(
    name: str, chosen: Options, folder: Path, engine: int, opened: contextlib.ExitStack
) -> tuple[str, Running] | None:
    """A peer that answers, and its title; none where it is not installed."""
    (folder / name).mkdir()
    peer = installed(chosen.tools)[name](folder / name, engine)
    if peer is None:
        return None
    found = opened.enter_context(
        running(peer.command, port=peer.port, core=1, log=folder / f"{name}.log",
                environment=peer.environment)
    )  # fmt: skip
    begin(peer)
    return peer.title, found


def report(chosen: Options, folder: Path) -> Iterator[str]:
    """The table, line by line."""
    yield f"Measured {tables.machine()}; {chosen.rounds} rounds of {chosen.seconds:g} s."
    with contextlib.ExitStack() as opened:
        port = free_port()
        command = [sys.executable, "-m", "bench.paced_engine", str(port)]
        log = folder / "engine.log"
        engine = opened.enter_context(running(command, port=port, core=0, log=log, environment={}))
        peers = {"direct": Running(port, None)}
        for name in chosen.peers:
            if (found := start(name, chosen, folder, port, opened)) is None:
                yield f"{name} is not installed here."
            else:
                peers |= [found]
        taken = {name: Taken() for name in peers}
        for _ in range(chosen.rounds):
            for name, running_peer in peers.items():
                take(taken[name], running_peer, engine, chosen.seconds)
    direct = taken.pop("direct")
    yield HEAD
    yield from (row(name, took, direct) for name, took in taken.items())
    yield (
        f"\nWithout a gateway an answer took {median(direct.p50):.2f} ms, and a token was "
        f"{median(direct.hop):.2f} ms on its way."
    )


def main() -> None:
    end_well()
    chosen, lines = options(), []
    with tempfile.TemporaryDirectory(prefix="hanlin-bench-") as folder:
        for line in report(chosen, Path(folder)):
            print(line, flush=True)
            lines.append(line)
    if chosen.write:
        tables.write(BEGIN, "\n".join(lines))


if __name__ == "__main__":
    main()
