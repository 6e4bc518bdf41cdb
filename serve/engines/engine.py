"""What every engine is to the host: a command for a workspace, and three questions over HTTP.

A new engine is one file with a class like this protocol and one line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx

from assistants.schema import Assistant
from serve.engines.errors import EngineError, EngineNotBuiltError
from serve.process import Command


class Engine(Protocol):
    """One kind of inference server."""

    name: str

    def command(self, assistant: Assistant, workspace: Path, port: int) -> Command:
        """The command that serves a workspace on a loopback port.

        Raises:
            WorkspaceError: the workspace is missing or is not what the assistant declares.
        """
        ...

    async def first_token(self, client: httpx.AsyncClient, assistant: str) -> bool:
        """Whether it is loaded and has just generated a token."""
        ...

    async def alive(self, client: httpx.AsyncClient) -> bool:
        """Whether it still answers; cheap, and true under full load."""
        ...

    async def busy(self, client: httpx.AsyncClient) -> bool:
        """Whether a request is in flight."""
        ...


def choose(name: str) -> Engine:
    """The engine of that name; `auto` takes what this machine can run.

    Raises:
        EngineError: the name is unknown, or the engine cannot be run yet.
    """
    if name == "turbomind":
        raise EngineNotBuiltError(
            "The turbomind engine is not built yet; use --engine llamacpp (or auto)."
        )
    make = ENGINES.get("llamacpp" if name == "auto" else name)
    if make is None:
        raise EngineError(f"There is no engine '{name}'; known are auto, {', '.join(ENGINES)}.")
    return make()


def _llamacpp() -> Engine:
    from serve.engines.llamacpp import Llamacpp

    return Llamacpp()


ENGINES: dict[str, Callable[[], Engine]] = {"llamacpp": _llamacpp}
