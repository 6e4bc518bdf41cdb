"""Which engines there are, by name, and which of them this machine can run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from serve.engines.backends.engine import Engine
from serve.engines.backends.llamacpp import Llamacpp
from serve.engines.backends.turbomind import Turbomind
from serve.engines.errors import EngineError, EngineUnavailableError, NoLmdeployError

log = logging.getLogger("hanlin.engines")


def choose(name: str) -> Engine:
    """The engine of that name; `auto` takes TurboMind where this machine can run it.

    Raises:
        EngineUnavailableError: this machine cannot run it.
        EngineError: the name is unknown, or what is named as LMDeploy cannot be run.
    """
    if name == "auto":
        try:
            return _turbomind()
        except NoLmdeployError as missing:
            log.warning("The GPUs of this machine are not used: %s", missing)
            return Llamacpp()
        except EngineUnavailableError:
            return Llamacpp()
    make = ENGINES.get(name)
    if make is None:
        raise EngineError(f"There is no engine '{name}'; known are auto, {', '.join(ENGINES)}.")
    return make()


def _turbomind() -> Engine:
    return Turbomind.of_this_machine(os.environ)


ENGINES: dict[str, Callable[[], Engine]] = {"llamacpp": Llamacpp, "turbomind": _turbomind}
