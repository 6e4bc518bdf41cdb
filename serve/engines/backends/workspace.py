"""What every engine checks of a workspace before it starts: that it is there, and is up to date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from assistants.schema import Assistant
from serve.engines.backends.engine import Launch
from serve.engines.errors import WorkspaceError

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(kind: type[Settings], assistant: Assistant, launch: Launch) -> Settings:
    """What its engine.json says.

    Raises:
        WorkspaceError: there is none, or it is not one of this engine's.
    """
    path = launch.workspace / "engine.json"
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WorkspaceError(
            f"The assistant '{assistant.name}' has no workspace in {launch.workspace} yet; it "
            # Not "run": in containers, and beside `hanlin up`, somebody is at it already.
            f"starts as soon as {_convert(assistant, launch)} has built one."
        ) from error
    except ValidationError as error:
        raise unusable(assistant, launch, f"{path} is not a workspace's engine.json") from error


def require_current(
    assistant: Assistant,
    launch: Launch,
    *,
    declared: Mapping[str, Any],
    built: Mapping[str, Any],
) -> None:
    """Make sure that it was built from what is declared now: `built` is its engine.json, whose
    `declared` is what was, where the model had no room for it.

    Raises:
        WorkspaceError: it was not; names every setting that differs.
    """
    built = {**built, **(built.get("declared") or {})}
    changed = ", ".join(
        f"{name} is {value} now, was {built[name]}"
        for name, value in declared.items()
        if built[name] != value
    )
    if changed:
        outdated = f"The workspace of '{assistant.name}' is outdated ({changed})"
        raise unusable(assistant, launch, outdated)


def unusable(assistant: Assistant, launch: Launch, problem: str) -> WorkspaceError:
    """The error about one that has to be built anew."""
    return WorkspaceError(f"{problem}; run {_convert(assistant, launch)}.")


def _convert(assistant: Assistant, launch: Launch) -> str:
    return f"hanlin convert {assistant.name}{launch.options}"
