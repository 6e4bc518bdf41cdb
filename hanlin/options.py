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


Engine = Annotated[EngineName, typer.Option(envvar="HANLIN_ENGINE", help="What serves the models.")]
Assistants = Annotated[
    Path,
    typer.Option(
        metavar="DIR", envvar="HANLIN_ASSISTANTS", help="Where the assistants are declared."
    ),
]
Workspaces = Annotated[
    Path,
    typer.Option(metavar="DIR", envvar="HANLIN_WORKSPACES", help="Where workspaces are built."),
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
    typer.Option(metavar="FILE", envvar="HANLIN_KEYS_FILE", help="Who may use the gateway."),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        envvar="HANLIN_MEMORY",
        help="What engines may take together without a GPU, such as 8GiB; by default nearly all.",
    ),
]
Advertise = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", envvar="HANLIN_ADVERTISE", help="The name gateways reach engines by."
    ),
]
EnginePorts = Annotated[
    str | None,
    typer.Option(
        metavar="A-B",
        envvar="HANLIN_ENGINE_PORTS",
        help="Where engines listen, such as 41000-41099; by default wherever it is free.",
    ),
]
MinimumStay = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        envvar="HANLIN_MINIMUM_STAY",
        min=0,
        max=A_DAY,
        help="How long an engine stays before it makes room for another.",
    ),
]
Drain = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        envvar="HANLIN_DRAIN",
        min=0,
        max=A_DAY,
        help="How long requests may take to finish when it is told to stop.",
    ),
]
Limits = Annotated[
    str | None,
    typer.Option(
        "--limits-url",
        metavar="redis://…",
        envvar="HANLIN_LIMITS",
        help="Where several gateways count the rates of keys together.",
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
    bool, typer.Option("--log-prompts", help="Write what is asked into the access log.")
]

EntryFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="Put the entry into this file."),
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
    typer.Option(metavar="FILE", envvar="HANLIN_UI_USERS_FILE", help="Who may open the page."),
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
        metavar="N", min=1, help="Threads of 4-bit arithmetic on a CPU; by default all it may use."
    ),
]
AcceptFidelity = Annotated[
    bool,
    typer.Option("--accept-fidelity", help="Take the result however far it is from its original."),
]
GatewayAsked = Annotated[
    str | None,
    typer.Option("--gateway", metavar="URL", envvar="HANLIN_GATEWAY", help="Where the gateway is."),
]
EnginesAsked = Annotated[
    str | None,
    typer.Option(
        "--engines", metavar="URL", envvar="HANLIN_ENGINES", help="Where the engine host is."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]

AUTO = EngineName.auto
