"""The states of an engine, as the engine host tells them and gateway and command read them."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Of one engine; an assistant's is that of its most able one."""

    stopped = "stopped"
    starting = "starting"
    ready = "ready"
    failed = "failed"
    draining = "draining"

    @property
    def told(self) -> str:
        """As the end of a sentence that begins with the engine's name."""
        match self:
            case State.failed:
                return "has failed"
            case State.draining:
                return "is finishing its last requests"
            case _:
                return f"is {self.value}"
