"""Brings a model repository of Hugging Face or ModelScope to this machine.

Only what a model needs is fetched. Both hubs' own clients do the transfer: they resume, verify,
and share their cache with everything else on the machine.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils.tqdm import tqdm

from assistants.weights import HUBS, Hub
from convert.errors import FetchError
from convert.fetch import modelscope
from convert.fetch.hub_files import Choice, choose
from convert.progress import Progress, Task


def fetch(given: Hub, progress: Progress) -> Path:
    """The model's folder on this machine, or the training checkpoint.

    Raises:
        FetchError: the hub cannot be reached, or does not have it.
    """
    folder, choice = (modelscope.fetch if given.hub == "modelscope" else _fetch)(given, progress)
    return folder / choice.inside


def _fetch(given: Hub, progress: Progress) -> tuple[Path, Choice]:
    try:
        files = HfApi().list_repo_files(given.repo, revision=given.revision)
        choice = choose(files)
        task = progress.task(f"fetching {given.repo}", None)
        folder = snapshot_download(
            given.repo,
            revision=given.revision,
            allow_patterns=choice.files,
            tqdm_class=_told_to(task),
        )
        return Path(folder), choice
    except (OSError, _transport_error()) as error:
        raise _unreachable(given, error) from error


def _transport_error() -> type[Exception]:
    """What the hub client's own HTTP library raises for a lost connection. Which library that is
    has changed between versions of the client; its errors are still derived from it."""
    bases = HfHubHTTPError.__mro__
    return next(base for base in bases if base.__name__ == "HTTPError" and base is not OSError)


def _unreachable(given: Hub, error: Exception) -> FetchError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in (401, 403):
        why = "it is private or gated; log in with `hf auth login` or set HF_TOKEN"
    elif status == 404:
        why = f"there is no such repository or revision '{given.revision}'"
    else:
        why = f"the hub cannot be reached ({type(error).__name__})"
    return FetchError(f"{given} cannot be fetched from {HUBS[given.hub]}: {why}.")


class _Nowhere(io.StringIO):
    """Where bars that somebody else draws go: no terminal, so they never draw themselves."""


def _told_to(task: Task) -> type[Any]:
    """A bar for the hub's client that passes the bytes on instead of drawing them."""

    class Passing(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            # of the client's two bars of bytes, the one that counts what is on the disk
            self._counts = str(options.get("desc", "")).startswith("Reconstructing")
            super().__init__(*args, **{**options, "file": _Nowhere()})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if self._counts and n:
                task.advance(int(n))
            super().update(n)

    return Passing
