"""What can go wrong between a declaration and a workspace, each said in one sentence.

ConvertError(HanlinError)
├── FetchError          weights that cannot be found or brought here
├── DamagedError        a file that is not what its header, index or checksum says
├── AdapterError        an adapter that does not belong to this base, or cannot be merged
├── UnsupportedError    a layout, tokenizer or setting this room has no rule for
├── DeclaredError       a declaration that asks for what this model cannot do
├── FidelityError       a result that is further from its original than is allowed
└── BuildError          the workspace could not be written: disk full, or built by someone else
"""

from __future__ import annotations

import errno
from pathlib import Path

from assistants.errors import HanlinError


class ConvertError(HanlinError):
    """A conversion that cannot be done; nothing was half-written."""


class FetchError(ConvertError):
    """Weights that cannot be found or brought here."""


class DamagedError(ConvertError):
    """A file that is not what its header, index or checksum says."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class AdapterError(ConvertError):
    """An adapter that does not belong to this base, or that cannot be merged."""


class UnsupportedError(ConvertError):
    """A layout, tokenizer or setting there is no rule for."""


class DeclaredError(ConvertError):
    """A declaration that asks for what this model cannot do."""

    def __init__(self, place: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.place = place
        """Where it stands in the declaration."""


class FidelityError(ConvertError):
    """A model that is further from what it was made of than is allowed."""


class BuildError(ConvertError):
    """The workspace could not be written."""


def writing(path: Path, error: OSError) -> BuildError:
    """The sentence for a write that the file system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return BuildError(
            f"No room left for {path}; free some space there, or name another folder."
        )
    return BuildError(f"{path} cannot be written: {error.strerror or error}.")
