"""One part alone, in this process, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hanlin.access import exposed, key_sources, uncounted, unserved
from hanlin.places import base_url
from serve.ports import require_free

if TYPE_CHECKING:
    from hanlin.page import PageOptions


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The options of `hanlin gateway`."""

    engines: str | None
    host: str
    port: int
    keys: Path | None
    limits_url: str | None
    cors_origins: tuple[str, ...]
    log_prompts: bool
    workers: int = 1
    drain: int = 30


def gateway(assistants: Path, options: GatewayOptions) -> None:
    from assistants.load import House, load_house
    from serve.elsewhere import with_upstreams
    from serve.engines_key import engines_key
    from serve.gateway.app import run
    from serve.gateway.origins import origins
    from serve.gateway.settings import GatewaySettings

    def house() -> House:
        return with_upstreams(load_house(assistants), os.environ)

    engines = base_url(options.engines) if options.engines else None
    declared = house()  # what is wrong with it is said before anything else
    pages = origins(options.cors_origins)
    require_free(options.host, options.port, option="--port")
    end_well()
    _log()
    sources = key_sources(options.keys)
    warnings = (
        unserved(engines, declared),
        exposed(options.host, sources),
        uncounted(options.workers, options.limits_url, sources),
    )
    for warning in filter(None, warnings):
        logging.getLogger("hanlin.gateway").warning(warning)
    settings = GatewaySettings(
        host=options.host,
        port=options.port,
        engines=engines,
        engines_key=engines_key(os.environ),
        keys=sources,
        limits_url=options.limits_url,
        cors_origins=pages,
        log_prompts=options.log_prompts,
        workers=options.workers,
        drain_seconds=options.drain,
    )
    run(settings, house)


def ui(options: PageOptions) -> None:
    from hanlin.page import open_door

    settings = options.settings()
    require_free(settings.host, settings.port, option="--port")
    end_well()
    if warning := open_door(settings):
        logging.getLogger("hanlin.ui").warning(warning)
    from serve.ui.page import run  # seconds of Gradio, after what can be refused at once

    run(settings)


def end_well() -> None:
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
