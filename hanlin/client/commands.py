"""`chat`, `status` and `logs`, clients of a running house, with their options; registered in
`hanlin/commands.py`."""

from __future__ import annotations

from typing import Annotated

import typer

from hanlin.options import EnginesAsked, GatewayAsked, Json, Workspaces
from hanlin.places import WORKSPACES


def chat(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The assistant.")],
    gateway: GatewayAsked = None,
    workspaces: Workspaces = WORKSPACES,
) -> None:
    """Talk to an assistant in the terminal; RESET clears the conversation, EXIT leaves."""
    from hanlin.client.chat import chat
    from hanlin.client.target import from_here

    chat(name, from_here(workspaces, gateway=gateway))


def status(
    gateway: GatewayAsked = None,
    engines: EnginesAsked = None,
    workspaces: Workspaces = WORKSPACES,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds.")] = False,
) -> None:
    """Show the state of each assistant and engine, and how busy they are."""
    from hanlin.client.status import status
    from hanlin.client.target import from_here

    asked = from_here(workspaces, gateway=gateway, engines=engines)
    status(asked, as_json=as_json, watch=watch)


def logs(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="An assistant, or gateway, page or engines.")
    ],
    lines: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many of the last lines.")
    ] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep printing what is written, until Ctrl-C.")
    ] = False,
    engines: EnginesAsked = None,
    workspaces: Workspaces = WORKSPACES,
) -> None:
    """Show the log of an engine, the gateway, the page or the engine host."""
    from hanlin.client.logs import Wanted, show
    from hanlin.client.target import from_here
    from hanlin.places import logs

    asked = from_here(workspaces, engines=engines)
    show(Wanted(name, lines, follow), logs(workspaces), asked)
