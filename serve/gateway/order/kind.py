"""Which kind of engine serves an assistant, and how certain that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SERVERS: Mapping[bytes, str] = {b"llama.cpp": "llamacpp"}
"""What stands in the header Server of an answer → the kind of engine that gave it."""


class Kind(NamedTuple):
    """What is known of an assistant's engine."""

    told: str | None = None
    """What the engine host says it is."""
    seen: str | None = None
    """Where nobody says: what its last answer looked like. Enough for what does no harm if others
    of its replicas are of another kind; not for refusing what was answered a moment ago."""


UNKNOWN = Kind()
