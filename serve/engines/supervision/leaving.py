"""How one engine leaves: what is said of it, how long it may take, who still sends to it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serve.engines.gateways import Gateways


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """What it was told when it was told to go."""

    reason: str | None = None
    deadline: float = 0.0
    """What is in flight then is cut; by the clock that `time.monotonic` reads."""
    urgent: bool = False
    """Gateways are not waited for."""
    version: int = 0
    """Of the list that tells of it; gateways that act upon this one send it nothing more."""

    def left_alone(self, replica: str, assistant: str, gateways: Gateways, now: float) -> bool:
        """Whether no gateway sends to it any more, nor waits for what it was sent."""
        return self.urgent or (
            gateways.all_know(self.version, now) and not gateways.in_flight(replica, assistant, now)
        )
