"""The request's fields that decide the shape of its answer; read in `order`, used in `answers`."""

from __future__ import annotations

from dataclasses import dataclass

from serve.gateway.answers.stop import Stops


@dataclass(frozen=True, slots=True)
class Asked:
    """Kept from a request for its answer."""

    assistant: str
    chat: bool = True
    """A chat completion; otherwise a text completion."""
    usage: bool = False
    """The client wants the tokens counted at the end of its stream."""
    stops: Stops | None = None
    """What the gateway itself must end the answer at."""
    names_stop: bool = False
    """The client is told which stop ended its answer; engines do not say."""
    folded: bool = False
    """The engine is asked for a stream, the client for a whole answer."""
    prompts: int = 1
    n: int = 1
    """How many answers to each prompt."""
    prompt_bytes: int = 0

    @property
    def choices(self) -> int:
        return self.prompts * self.n
