"""Runs `lmdeploy` with what its own command line lacks; a script for the Python that has it.

    PYTHON turbomind_server.py serve api_server WORKSPACE [any option of it]

The key of the engines comes by the environment, since LMDeploy takes it as an argument only, and
arguments are for everybody to read. /metrics says how many requests are in flight at that moment;
LMDeploy's own numbers are up to ten seconds old, and leave out what waits for a slot. And where it
would go on with its PyTorch engine instead of TurboMind, it ends.

It imports nothing of this project, because it runs where that need not be installed.
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

KEY = "HANLIN_ENGINES_KEY"
FALL_BACK = "Fallback to pytorch"


class InFlight:
    """An ASGI application in front of another one, which counts what that is working on."""

    def __init__(self, app: Callable[..., Any], gauge: Any) -> None:
        self._app = app
        self._gauge = gauge

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":  # what is computed is posted
            await self._app(scope, receive, send)
            return
        with self._gauge.track_inprogress():
            await self._app(scope, receive, send)


def counted(run: Callable[..., None]) -> Callable[..., None]:
    """uvicorn's `run`, with the counting application before any other."""
    from prometheus_client import Gauge

    gauge = Gauge("hanlin_requests_in_flight", "Requests not fully answered at this moment.")

    def run_counted(*, app: Callable[..., Any], **options: Any) -> None:
        run(app=InFlight(app, gauge), **options)

    return run_counted


def no_fall_back(record: logging.LogRecord) -> bool:
    """Ends the process with the warning that TurboMind is given up, which LMDeploy only logs."""
    said = record.getMessage()
    if said.startswith(FALL_BACK):
        raise SystemExit(said)
    return True


def main() -> None:
    # A script's folder comes first in the search, and this one has an openai.py.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != FOLDER]
    import uvicorn

    logging.getLogger("lmdeploy").addFilter(no_fall_back)
    # LMDeploy builds its application and runs it in one call; there is no other place to get at it.
    uvicorn.run = counted(uvicorn.run)
    if key := os.environ.pop(KEY, ""):
        sys.argv.append(f"--api-keys={key}")
    runpy.run_module("lmdeploy", run_name="__main__", alter_sys=True)


FOLDER = Path(__file__).resolve().parent

if __name__ == "__main__":
    main()
