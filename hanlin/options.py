"""Options that several commands share, each said once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

A_DAY = 86400.0
"""More than this nobody means, and `inf` least of all."""


class EngineName(StrEnum):
    """What serves the models; auto takes what the machine can run."""

    auto = "auto"
    turbomind = "turbomind"
    llamacpp = "llamacpp"


Engine = Annotated[
    EngineName, typer.Option(envvar="HANLIN_ENGINE", help="The engine that serves the models.")
]
Assistants = Annotated[
    Path,
    typer.Option(metavar="DIR", envvar="HANLIN_ASSISTANTS", help="Folder of the declarations."),
]
Workspaces = Annotated[
    Path,
    typer.Option(metavar="DIR", envvar="HANLIN_WORKSPACES", help="Folder of the workspaces."),
]
Host = Annotated[
    str,
    typer.Option(metavar="H", envvar="HANLIN_HOST", help="Address to listen on; 0.0.0.0 for all."),
]
Port = Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="Port to listen on.")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]…", help="Assistants; all where none is named.")
]

Keys = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", envvar="HANLIN_KEYS_FILE", help="File of the keys that may use the gateway."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        envvar="HANLIN_MEMORY",
        help="Memory for all engines together, without a GPU, such as 8GiB; default: nearly all.",
    ),
]
Advertise = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        envvar="HANLIN_ADVERTISE",
        help="Host name under which gateways reach the engines.",
    ),
]
EnginePorts = Annotated[
    str | None,
    typer.Option(
        metavar="A-B",
        envvar="HANLIN_ENGINE_PORTS",
        help="Ports for the engines, such as 41000-41099; default: any that are free.",
    ),
]
MinimumStay = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        envvar="HANLIN_MINIMUM_STAY",
        min=0,
        max=A_DAY,
        help="Seconds an engine stays loaded before it may make room for another.",
    ),
]
Drain = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        envvar="HANLIN_DRAIN",
        min=0,
        max=A_DAY,
        help="Seconds that requests under way have to finish once it is told to stop.",
    ),
]
Limits = Annotated[
    str | None,
    typer.Option(
        "--limits-url",
        metavar="redis://…",
        envvar="HANLIN_LIMITS",
        help="URL of a Redis in which several gateways share the rates of keys.",
    ),
]
CorsOrigins = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin",
        metavar="ORIGIN,…",
        envvar="HANLIN_CORS_ORIGINS",
        help="Whose web pages may ask from a browser, such as https://page.example.org; * for all.",
    ),
]
LogPrompts = Annotated[
    bool, typer.Option("--log-prompts", help="Include prompts in the access log.")
]

EntryFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="Append the entry to this file."),
]
Feedback = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="HANLIN_FEEDBACK",
        help="Ask for thumbs, and keep them there (JSONL, with the conversation).",
    ),
]
Users = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="HANLIN_UI_USERS_FILE",
        help="File of the users who may open the page.",
    ),
]
UserHeader = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        envvar="HANLIN_UI_USER_HEADER",
        help="The header in which a proxy says who has signed in.",
    ),
]
Proxies = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS,…",
        envvar="HANLIN_UI_PROXIES",
        help="From where that header is believed; nobody else may open the page then.",
    ),
]

Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda",
        help="Where 4-bit weights are computed; auto is a GPU with room for it, or else the CPU.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="CPU threads for 4-bit arithmetic; default: all it may use."
    ),
]
AcceptFidelity = Annotated[
    bool,
    typer.Option("--accept-fidelity", help="Take the result however far it is from its original."),
]
GatewayAsked = Annotated[
    str | None,
    typer.Option("--gateway", metavar="URL", envvar="HANLIN_GATEWAY", help="URL of the gateway."),
]
EnginesAsked = Annotated[
    str | None,
    typer.Option(
        "--engines", metavar="URL", envvar="HANLIN_ENGINES", help="URL of the engine host."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

AUTO = EngineName.auto
