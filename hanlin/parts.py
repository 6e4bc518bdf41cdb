"""One part alone, in this process, until it is told to stop."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

from hanlin.places import logs
from serve.ports import require_free


def gateway(assistants: Path, engines: str | None, *, host: str, port: int) -> None:
    from assistants.load import load_house
    from serve.gateway.app import run
    from serve.gateway.settings import GatewaySettings

    house = load_house(assistants)
    require_free(host, port, option="--port")
    _end_well()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run(GatewaySettings(host=host, port=port, engines=engines), house)


def engines(engine: str, assistants: Path, workspaces: Path, *, host: str, port: int) -> None:
    from serve.engines.app import HostSettings, run

    run(
        HostSettings(
            assistants=assistants,
            workspaces=workspaces,
            logs=logs(workspaces),
            engine=engine,
            host=host,
            port=port,
        )
    )


def ui(gateway_url: str, *, host: str, port: int) -> None:
    require_free(host, port, option="--port")
    _end_well()
    from serve.ui.page import run  # seconds of Gradio, after what can be refused at once

    run(gateway_url, host, port)


def _end_well() -> None:
    """Being told to stop is no failure: exit code 0, before a server listens and after.

    uvicorn puts this handler back when it has shut down, and raises the signal again.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
