"""`key` and `user`, which give somebody access, with their options; registered in commands.py."""

from __future__ import annotations

from typing import Annotated

import typer

from hanlin.options import EntryFile


def key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of its holder, for the logs.")],
    file: EntryFile = None,
    assistant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An assistant it may use; repeatable. Default: all."),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Requests it may make in a minute.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Tokens it may use in a minute.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Requests it may have under way at once.")
    ] = None,
) -> None:
    """Make a key for the gateway; it is shown only once."""
    from hanlin.key import make

    limits = {
        "assistants": assistant,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrency": concurrency,
    }
    make(name, file, limits)


def user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name they sign in with.")],
    file: EntryFile = None,
) -> None:
    """Add a user of the page; you are asked for the password."""
    from hanlin.user import make

    make(name, file)
