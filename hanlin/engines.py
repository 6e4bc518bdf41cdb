"""`hanlin engines`: the engine host, with the plan of memory that the conversion makes."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from assistants.errors import HanlinError
from hanlin.parts import end_well
from hanlin.places import logs, options_for
from serve.addresses import LOOPBACKS

_PORTS = re.compile(r"(?P<first>\d{1,5})-(?P<last>\d{1,5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginesOptions:
    """The options of `hanlin engines`."""

    engine: str
    host: str
    port: int
    advertise: str | None
    engine_ports: str | None
    memory: str | None
    minimum_stay: float
    drain: float


def engines(assistants: Path, workspaces: Path, options: EnginesOptions) -> None:
    """Keep engines up until told to stop.

    Raises:
        HanlinError: an option, the declaration, the engine or the port cannot be used.
    """
    end_well()  # also while the driver is asked for GPUs, which may take half a minute
    from hanlin.memory import planner
    from serve.engines.app import HostSettings, run
    from serve.engines.backends.registry import choose
    from serve.engines.policy import Policy
    from serve.engines.site import Site
    from serve.engines_key import engines_key

    _tell()
    site = Site(
        workspaces=workspaces,
        logs=logs(workspaces),
        host=options.host,
        advertise=options.advertise,
        ports=read_ports(options.engine_ports) if options.engine_ports else None,
        key=engines_key(os.environ),
        options=options_for(assistants, workspaces, os.environ),
    )
    if site.key is None and options.host not in LOOPBACKS:
        logging.getLogger("hanlin.engines").warning(
            "Whoever reaches %s can use the engines past the gateway: set HANLIN_ENGINES_KEY.",
            options.host,
        )
    engine = choose(options.engine)
    run(
        HostSettings(
            assistants=assistants,
            site=site,
            plan=planner(engine.name, workspaces, memory=options.memory),
            engine=engine,
            port=options.port,
            policy=Policy(drain=options.drain, minimum_stay=options.minimum_stay),
        )
    )


def _tell() -> None:
    """What becomes of engines, and what is wrong, to stderr: dated as in the engines' own logs."""
    words = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    words.converter = time.gmtime
    lines = logging.StreamHandler()
    lines.setFormatter(words)
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    logging.getLogger("hanlin").setLevel(logging.INFO)


def read_ports(text: str) -> range:
    """`41000-41099`.

    Raises:
        HanlinError: that is no range of ports.
    """
    found = _PORTS.fullmatch(text.strip())
    ports = range(int(found["first"]), int(found["last"]) + 1) if found else range(0)
    if not ports or not 1 <= ports[0] <= ports[-1] <= 65535:
        raise HanlinError(f"--engine-ports {text} is no range of ports; write it as 41000-41099.")
    return ports
