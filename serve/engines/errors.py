"""What can keep an engine from running, each a sentence with its remedy."""

from __future__ import annotations

from assistants.errors import HanlinError


class EngineError(HanlinError):
    """An engine that cannot be started as things are."""


class WorkspaceError(EngineError):
    """The workspace is missing, broken, or older than the declaration."""

    def __init__(self, assistant: str, problem: str) -> None:
        super().__init__(f"{problem}; run hanlin convert {assistant}.")


class EngineNotBuiltError(EngineError):
    """An engine Hanlin knows of and cannot run yet."""
