"""The real LMDeploy for tests: its Python, with a stand-in for the GPU or without; its parser.

`HANLIN_LMDEPLOY_PYTHON` is read here, once: a fixture clears the environment of each test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.engines.backends.lmdeploy import Lmdeploy
from serve.engines.backends.turbomind import Turbomind
from serve.engines_key import bearer
from serve.process import Command, Log, Process

NAMED = os.environ.get("HANLIN_LMDEPLOY_PYTHON")
HERE = Path(__file__).parent
START_SECONDS = 150
ENGINE = Turbomind(Lmdeploy(Path("python"), "0.18.0"))


def real_python() -> Path:
    """The Python that has it; where none is named, the test is skipped."""
    if not NAMED:
        pytest.skip("needs the real LMDeploy; name its python with HANLIN_LMDEPLOY_PYTHON")
    return Path(NAMED)


def reciting_python(folder: Path) -> Path:
    """A Python whose scripts find the reciter in TurboMind's place; its options are the real's."""
    real, reciter = shlex.quote(str(real_python())), shlex.quote(str(HERE / "reciting_python.py"))
    path = folder / "python"
    path.write_text(
        f'#!/bin/sh\ncase "$1" in -*) exec {real} "$@" ;; esac\nexec {real} {reciter} "$@"\n'
    )
    path.chmod(0o755)
    return path


@dataclass(frozen=True)
class Running:
    """One process of it."""

    process: Process
    client: httpx.AsyncClient
    """With the key."""
    port: int


@contextlib.asynccontextmanager
async def running(command: Command, port: int, log: Path, key: str) -> AsyncIterator[Running]:
    """It, from its first token on."""
    process = await Process.start(command, Log(log))
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(
        base_url=url, headers=bearer(key), trust_env=False, timeout=30
    ) as client:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await ENGINE.first_token(client, "wishes"):
                    assert process.running, process.lines()
                    await asyncio.sleep(0.1)
            yield Running(process, client, port)
        finally:
            await process.stop(0)


async def ended(command: Command, log: Path) -> tuple[int, list[str]]:
    """What one that cannot start ends with, and all it wrote."""
    process = await Process.start(command, Log(log))
    try:
        async with asyncio.timeout(START_SECONDS):
            return await process.wait(), process.lines()
    finally:
        await process.stop(0)


@contextlib.contextmanager
def parser() -> Iterator[Parser]:
    asked = subprocess.Popen(
        [real_python(), HERE / "lmdeploy_parser.py"], cwd="/", text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    with asked:
        yield Parser(asked)


@dataclass(frozen=True)
class Parser:
    """LMDeploy's own, in one process for all questions: importing it takes seconds."""

    process: subprocess.Popen[str]

    def ask(self, argv: list[str]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(argv) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer
