"""`hanlin --version`."""

from __future__ import annotations

import sys

import typer


def tell_version(wanted: bool) -> None:
    """Say it and end, if that is wanted."""
    if wanted:
        from importlib.metadata import version  # looks through all that is installed

        sys.stdout.write(f"hanlin {version('hanlin')}\n")
        raise typer.Exit
