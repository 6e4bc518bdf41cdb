"""Commands that ask a house which is up, with their options; `commands` makes them known."""

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
    from hanlin.outside.chat import chat
    from hanlin.outside.whom import from_here

    chat(name, from_here(workspaces, gateway=gateway))


def status(
    gateway: GatewayAsked = None,
    engines: EnginesAsked = None,
    workspaces: Workspaces = WORKSPACES,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds.")] = False,
) -> None:
    """Show the state of each assistant and engine, and how busy they are."""
    from hanlin.outside.status import status
    from hanlin.outside.whom import from_here

    asked = from_here(workspaces, gateway=gateway, engines=engines)
    status(asked, as_json=as_json, watch=watch)


def logs(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="An assistant, or gateway, page or engines.")
    ],
    lines: Annotated[int, typer.Option(metavar="N", min=0, help="How many of the last.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", help="Also what comes, until Ctrl-C.")
    ] = False,
    engines: EnginesAsked = None,
    workspaces: Workspaces = WORKSPACES,
) -> None:
    """Show the log of an engine, the gateway, the page or the engine host."""
    from hanlin.outside.logs import Wanted, show
    from hanlin.outside.whom import from_here
    from hanlin.places import logs

    asked = from_here(workspaces, engines=engines)
    show(Wanted(name, lines, follow), logs(workspaces), asked)
