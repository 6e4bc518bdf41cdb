"""Brings a model repository of ModelScope to this machine, by ModelScope's own client.

The client comes with `hanlin[modelscope]`, and is in the locked environment and the images.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from assistants.weights import Hub
from convert.errors import FetchError
from convert.fetch.hub_files import Choice, choose
from convert.progress import Progress, Task

CLIENT = "modelscope_hub"
_KIND = "model"


def fetch(given: Hub, progress: Progress) -> tuple[Path, Choice]:
    """The repository's folder on this machine, and what was taken into it.

    Raises:
        FetchError: the client is missing, the hub cannot be reached, or does not have it.
    """
    if importlib.util.find_spec(CLIENT) is None:
        raise FetchError(
            f"{given} needs ModelScope's client: pip install modelscope-hub, or fetch the model "
            "yourself and name its folder."
        )
    client: Any = importlib.import_module(CLIENT)
    try:
        api = client.HubApi()
        listed = api.list_repo_files(given.repo, _KIND, revision=given.revision)
        choice = choose(file.path for file in listed)
        task = progress.task(f"fetching {given.repo}", None)
        folder = api.download_repo(
            given.repo,
            _KIND,
            revision=given.revision,
            allow_patterns=choice.files,
            progress_callbacks=[_told_to(task, client.ProgressCallback)],
        )
    except client.HubError as error:
        raise FetchError(f"{given} cannot be fetched from ModelScope: {_why(client, given, error)}."
        ) from error  # fmt: skip
    return Path(folder), choice


def _why(client: Any, given: Hub, error: Exception) -> str:
    if isinstance(error, client.NotExistError):
        return f"there is no such repository or revision '{given.revision}'"
    if isinstance(error, client.AuthenticationError | client.PermissionDeniedError):
        return "it is private; log in with `modelscope login` or set MODELSCOPE_API_TOKEN"
    return f"the hub cannot be reached ({type(error).__name__})"


def _told_to(task: Task, base: type[Any]) -> type[Any]:
    """What the client makes for each file, and tells the bytes that have come."""

    class Passing(base):  # type: ignore[misc]
        def update(self, size: int) -> None:
            task.advance(size)

    return Passing
