"""One part alone, in this process, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from hanlin.entrance import exposed, key_sources, uncounted
from hanlin.places import logs
from serve.ports import require_free


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The options of `hanlin gateway`."""

    engines: str | None
    host: str
    port: int
    keys: Path | None
    limits_url: str | None
    log_prompts: bool
    workers: int = 1


def gateway(assistants: Path, options: GatewayOptions) -> None:
    from assistants.load import House, load_house
    from serve.gateway.app import run
    from serve.gateway.settings import GatewaySettings
    from serve.gateway.upstream.elsewhere import with_upstreams

    def house() -> House:
        return with_upstreams(load_house(assistants), os.environ)

    house()  # what is wrong with it is said before anything else
    require_free(options.host, options.port, option="--port")
    _end_well()
    _log()
    sources = key_sources(options.keys)
    warnings = (
        exposed(options.host, sources),
        uncounted(options.workers, options.limits_url, sources),
    )
    for warning in filter(None, warnings):
        logging.getLogger("hanlin.gateway").warning(warning)
    settings = GatewaySettings(
        host=options.host,
        port=options.port,
        engines=options.engines,
        keys=sources,
        limits_url=options.limits_url,
        log_prompts=options.log_prompts,
        workers=options.workers,
    )
    run(settings, house)


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

    run(gateway_url, host, port, key=os.environ.get("HANLIN_KEY") or "hanlin")


def _end_well() -> None:
    """Being told to stop is no failure: exit code 0, before a server listens and after.

    uvicorn puts this handler back when it has shut down, and raises the signal again.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _log() -> None:
    """Words for a terminal, one JSON object a line for everything else."""
    from serve.gateway.record.access_log import JsonLines

    words = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    lines = logging.StreamHandler()
    lines.setFormatter(words if sys.stderr.isatty() else JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[lines])
