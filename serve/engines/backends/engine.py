"""What every engine is to the host: a command for a workspace, three questions, and its faults.

A new engine is one file with a class like this protocol and one line in `registry.ENGINES`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from assistants.schema import Assistant
from serve.addresses import LOOPBACK
from serve.process import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What the host decided for one start."""

    workspace: Path
    port: int
    host: str = LOOPBACK
    """The address to listen on."""
    key: str | None = None
    """What requests must bring as their bearer token; None: nothing. It goes to the program by its
    environment: what stands in its arguments, everybody on the machine can list."""
    gpus: tuple[int, ...] = ()
    """The GPUs it may see; none on a CPU."""
    share: float | None = None
    """Of the memory then free, what the cache takes; None: what the workspace says."""
    options: str = ""
    """What `hanlin convert` is to be told beside the name, so that it builds for this house."""


class Engine(Protocol):
    """One kind of inference server.

    Every `client` knows the base URL, and brings the key where there is one.
    """

    name: str
    serial: bool
    """Whether two starts on one GPU must not overlap: each measures what memory is free."""

    def command(self, assistant: Assistant, launch: Launch) -> Command:
        """The command that serves a workspace.

        Raises:
            WorkspaceError: the workspace is missing or is not what the assistant declares.
        """
        ...

    async def first_token(self, client: httpx.AsyncClient, assistant: str) -> bool:
        """Whether it is loaded and has just generated a token.

        Raises:
            EngineError: it never will, or not as it should; the sentence says why.
        """
        ...

    async def alive(self, client: httpx.AsyncClient) -> bool:
        """Whether it still answers and still computes; cheap, and true under full load."""
        ...

    async def progress(self, client: httpx.AsyncClient) -> Hashable | None:
        """How far it is with what it has to do: another value with every token, also of a prompt.

        The same as before where it does not say, though it listens; None where it has nothing to
        do, or where `alive` knows of a standstill by itself.
        """
        ...

    async def busy(self, client: httpx.AsyncClient) -> int:
        """How many requests are in flight, as far as it can say.

        One that listens and does not say counts as one; one that is gone as none.
        """
        ...

    def fault(self, lines: Sequence[str]) -> str | None:
        """What makes a start worthless though the process may live, as a sentence about it.

        From the lines it has written since; None where nothing is wrong. It never begins with the
        name of the assistant, which the host says, and ends with a full stop.
        """
        ...
