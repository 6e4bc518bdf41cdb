"""What every engine checks of a workspace before it starts: that it is there, and is up to date."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from assistants.schema import Assistant
from serve.engines.errors import WorkspaceError

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(kind: type[Settings], assistant: Assistant, workspace: Path) -> Settings:
    """What its engine.json says.

    Raises:
        WorkspaceError: there is none, or it is not one of this engine's.
    """
    path = workspace / "engine.json"
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        name = assistant.name
        raise WorkspaceError(
            name,
            f"The assistant '{name}' has no workspace in {workspace} yet",
            # Not "run": in containers, and beside `hanlin up`, somebody is at it already.
            remedy=f"it starts as soon as hanlin convert {name} has built one",
        ) from error
    except ValidationError as error:
        raise WorkspaceError(assistant.name, f"{path} is not a workspace's engine.json") from error


def require_current(
    assistant: Assistant, *, declared: Mapping[str, Any], built: Mapping[str, Any]
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
        raise WorkspaceError(
            assistant.name, f"The workspace of '{assistant.name}' is outdated ({changed})"
        )
