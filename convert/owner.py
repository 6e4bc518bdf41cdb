"""Which declaration a workspace belongs to, so that two houses do not overwrite each other's.

Workspaces are named after assistants. Two houses that share a name and a folder would rebuild each
other's workspaces again and again, hours of work each time. So the path of the declaration is kept
beside the workspaces of an assistant, and a declaration of that name in another file is refused for
as long as the first file exists.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from convert.errors import BuildError
from convert.publish import replaced

_FILE = ".declared"


def require(folder: Path, declaration: Path) -> None:
    """Return if this declaration may build in the folder of its name.

    Raises:
        BuildError: what is built there is another's.
    """
    other = _owner(folder)
    if other is None or other == declaration or other.samefile(declaration):
        return
    raise BuildError(
        f"{folder} was built for {other}, so {declaration} cannot be built there; choose "
        f"another folder, such as --workspaces {declaration.parent.name}-workspaces, or remove "
        f"{folder}."
    )


def write_down(folder: Path, declaration: Path) -> None:
    """Keep whose it is, where nobody's is kept or the owner is gone."""
    if _owner(folder) is None:
        with contextlib.suppress(OSError):  # nothing is lost but the warning of a mistake
            replaced(folder / _FILE, str(declaration))


def _owner(folder: Path) -> Path | None:
    """The declaration it was built for, if that is still there."""
    try:
        declaration = Path((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return declaration if declaration.is_file() else None
