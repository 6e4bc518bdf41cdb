"""What can keep an engine from running, each a sentence with its remedy.

EngineError
├── WorkspaceError           what it would serve is not there, or not up to date
└── EngineUnavailableError   this machine cannot run it
    └── NoLmdeployError      though it has the GPU for it
"""

from __future__ import annotations

from assistants.errors import HanlinError


class EngineError(HanlinError):
    """An engine that cannot be started, or cannot go on, as things are."""


class WorkspaceError(EngineError):
    """The workspace is missing, broken, or older than the declaration."""


class EngineUnavailableError(EngineError):
    """An engine that this machine has no hardware or no program for."""


class NoLmdeployError(EngineUnavailableError):
    """A machine for TurboMind that lacks LMDeploy, or one that is new enough."""
