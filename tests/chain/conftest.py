"""The whole chain as its user starts it: real base, adapters, conversion, engines and gateway."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
HANLIN = [sys.executable, "-m", "hanlin"]
NAMES = ["exam", "poetry", "sui", "wishes"]


@dataclass(frozen=True)
class Chain:
    """A running house: where its endpoint, its engine host and its workspaces are."""

    gateway: str
    engines: str
    workspaces: Path

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.gateway}/v1", api_key="none", max_retries=0)

    def replica(self, name: str) -> dict[str, object]:
        replicas = httpx.get(f"{self.engines}/replicas").json()["replicas"]
        return next(replica for replica in replicas if replica["assistant"] == name)


def convert(workspaces: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*HANLIN, "convert", "--workspaces", str(workspaces), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)


@contextlib.contextmanager
def part(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One part of the house as a process, ended by SIGTERM and expected to end well."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*HANLIN, *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            code = process.wait(30)
    assert code == 0, log.read_text()


def wait_ready(gateway: str) -> None:
    """Until every assistant is ready; the states are what the house itself says of them."""
    deadline, states = time.monotonic() + 90, {}
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            states = httpx.get(f"{gateway}/ready").json()["assistants"]
            if states and set(states.values()) == {"ready"}:
                return
        time.sleep(0.1)
    raise AssertionError(f"not ready: {states}")


@pytest.fixture(scope="session")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house") / "workspaces"
    done = convert(folder, "--engine", "llamacpp")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def chain(workspaces: Path) -> Iterator[Chain]:
    host, gateway = free_port(), free_port()
    logs = workspaces.parent
    engines_url, gateway_url = f"http://127.0.0.1:{host}", f"http://127.0.0.1:{gateway}"
    engines = ["engines", "--engine", "llamacpp", "--workspaces", str(workspaces)]
    door = ["gateway", "--engines", engines_url]
    with (
        part(logs / "engines.log", *engines, "--port", str(host)),
        part(logs / "gateway.log", *door, "--port", str(gateway)),
    ):
        wait_ready(gateway_url)
        yield Chain(gateway_url, engines_url, workspaces)
