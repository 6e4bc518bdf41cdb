"""The commands put together: here those that build or serve, with their options; those that let
somebody in and those that ask a house are next door. What they do is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hanlin.client.commands import chat, logs, status
from hanlin.credentials import key, user
from hanlin.options import (
    AUTO,
    AcceptFidelity,
    Advertise,
    Assistants,
    CorsOrigins,
    Device,
    Drain,
    Engine,
    EnginePorts,
    Feedback,
    Host,
    Json,
    Keys,
    Limits,
    LogPrompts,
    Memory,
    MinimumStay,
    Names,
    Port,
    Proxies,
    Threads,
    UserHeader,
    Users,
    Workspaces,
)
from hanlin.places import ASSISTANTS, WORKSPACES
from hanlin.version import tell_version
from serve.addresses import LOOPBACK

RUN, BUILD, PARTS = "Run", "Build", "One part alone (containers, debugging)"

app = typer.Typer(
    name="hanlin",
    help="翰林 Hanlin: your fine-tuned models as assistants behind one OpenAI-compatible endpoint.",
    epilog="An assistant is one file in assistants/. Start with: hanlin up",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        app(list(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


@app.callback()
def whole(
    version: Annotated[
        bool,
        typer.Option("--version", callback=tell_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """What is true of every command; its text is that of `app`."""


@app.command(rich_help_panel=RUN)
def up(
    engine: Engine = AUTO,
    assistants: Assistants = ASSISTANTS,
    workspaces: Workspaces = WORKSPACES,
    host: Host = LOOPBACK,
    port: Port = 8000,
    ui_port: Annotated[
        int, typer.Option(metavar="PORT", min=1, max=65535, help="Port of the page.")
    ] = 7860,
    ui: Annotated[bool, typer.Option("--ui/--no-ui", help="With or without the page.")] = True,
    keys: Keys = None,
    memory: Memory = None,
) -> None:
    """Build what is missing, then start engines, gateway and page; Ctrl-C stops everything."""
    from hanlin.up import UpSettings, up

    page = ui_port if ui else None
    up(UpSettings(engine.value, assistants, workspaces, host, port, page, keys, memory))


for command in (chat, status, logs, key, user):
    app.command(rich_help_panel=RUN)(command)


@app.command(rich_help_panel=BUILD)
def convert(
    names: Names = None,
    engine: Engine = AUTO,
    assistants: Assistants = ASSISTANTS,
    workspaces: Workspaces = WORKSPACES,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Rebuild what is already built.")] = False,
    accept_fidelity: AcceptFidelity = False,
    device: Device = AUTO.value,
    threads: Threads = None,
) -> None:
    """Build the workspaces of assistants from their declarations."""
    from hanlin.build import BuildSettings, Computing, convert

    computing = Computing(device, threads, accept_fidelity=accept_fidelity)
    settings = BuildSettings(engine.value, assistants, workspaces, tuple(names or ()), computing)
    convert(settings, dry_run=dry_run, force=force)


@app.command(rich_help_panel=BUILD)
def adapter(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="XTuner .pth, DeepSpeed or PEFT folder; of a folder of several, the newest.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    base: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For a full fine-tune: its base's folder."),
    ] = None,
) -> None:
    """Turn a training checkpoint into a PEFT adapter (a full fine-tune into a model)."""
    from hanlin.build import adapter

    adapter(checkpoint, out, base)


@app.command(rich_help_panel=BUILD)
def merge(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The base model's folder.")],
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The adapter's folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    max_shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest size of one weight file.")
    ] = "5GB",
) -> None:
    """Merge an adapter into its base, tensor by tensor."""
    from hanlin.build import merge

    merge(base, adapter, out, max_shard_size=max_shard_size)


@app.command(rich_help_panel=BUILD)
def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A merged model's folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Dialogues the weights are fitted to; without it, the assistant's own.",
        ),
    ] = None,
    assistant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose dialogues; of a workspace, the one it is for."),
    ] = None,
    assistants: Assistants = ASSISTANTS,
    samples: Annotated[int, typer.Option(metavar="N", help="Windows of text.")] = 64,
    seqlen: Annotated[int, typer.Option(metavar="N", help="Tokens in a window.")] = 512,
    method: Annotated[str, typer.Option(metavar="awq", help="The quantization method.")] = "awq",
    device: Device = AUTO.value,
    tool: Annotated[
        str,
        typer.Option(metavar="hanlin|lmdeploy", help="Hanlin's own, or lmdeploy lite auto_awq."),
    ] = "hanlin",
    threads: Threads = None,
    accept_fidelity: AcceptFidelity = False,
) -> None:
    """Quantise a model to 4 bits, one decoder layer in memory at a time."""
    from hanlin.build import Computing, Dialogues, quantize

    chosen = {"samples": samples, "seqlen": seqlen, "method": method, "tool": tool}
    dialogues = Dialogues(calibration, assistant, assistants)
    computing = Computing(device, threads, accept_fidelity=accept_fidelity)
    quantize(model, out, dialogues, computing.settings(**chosen))


@app.command(rich_help_panel=BUILD)
def verify(
    workspace: Annotated[Path, typer.Argument(metavar="WORKSPACE", help="The workspace's folder.")],
    tp: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="GPUs to split it over.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a workspace for anything that would stop an engine or spoil its answers."""
    from hanlin.reports import verify

    raise typer.Exit(verify(workspace, tp=tp, as_json=as_json))


@app.command(rich_help_panel=BUILD)
def plan(
    gpu: Annotated[
        list[str] | None, typer.Option(metavar="SIZE", help="A GPU, such as 24GiB; repeatable.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Memory of a machine without a GPU, such as 8GiB."),
    ] = None,
    assistants: Assistants = ASSISTANTS,
    workspaces: Workspaces = WORKSPACES,
    as_json: Json = False,
) -> None:
    """Show which assistants fit on which GPUs, with what share of memory, in what order."""
    from hanlin.reports import plan

    plan(gpu or [], memory, (assistants, workspaces), as_json=as_json)


@app.command(rich_help_panel=PARTS)
def gateway(
    engines: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="HANLIN_ENGINES", help="The engine host to follow."),
    ] = None,
    assistants: Assistants = ASSISTANTS,
    host: Host = LOOPBACK,
    port: Port = 8000,
    keys: Keys = None,
    limits_url: Limits = None,
    cors_origin: CorsOrigins = None,
    log_prompts: LogPrompts = False,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, help="Worker processes that share the port.")
    ] = 1,
    drain: Drain = 30.0,
) -> None:
    """Run the OpenAI-compatible endpoint alone."""
    from hanlin.parts import GatewayOptions, gateway

    pages, seconds = tuple(cors_origin or ()), round(drain)
    options = GatewayOptions(
        engines, host, port, keys, limits_url, pages, log_prompts, workers, seconds
    )
    gateway(assistants, options)


@app.command(rich_help_panel=PARTS)
def engines(
    engine: Engine = AUTO,
    assistants: Assistants = ASSISTANTS,
    workspaces: Workspaces = WORKSPACES,
    host: Host = LOOPBACK,
    port: Port = 8001,
    advertise: Advertise = None,
    engine_ports: EnginePorts = None,
    memory: Memory = None,
    minimum_stay: MinimumStay = 20.0,
    drain: Drain = 30.0,
) -> None:
    """Run the engine host alone: it starts and supervises this machine's engines."""
    from hanlin.engines import EnginesOptions, engines

    options = EnginesOptions(
        engine=engine.value,
        host=host,
        port=port,
        advertise=advertise,
        engine_ports=engine_ports,
        memory=memory,
        minimum_stay=minimum_stay,
        drain=drain,
    )
    engines(assistants, workspaces, options)


@app.command(rich_help_panel=PARTS)
def ui(
    gateway: Annotated[
        str, typer.Option(metavar="URL", envvar="HANLIN_GATEWAY", help="URL of the gateway.")
    ] = "http://127.0.0.1:8000",
    host: Host = LOOPBACK,
    port: Port = 7860,
    feedback: Feedback = None,
    users: Users = None,
    user_header: UserHeader = None,
    proxies: Proxies = "127.0.0.1,::1",
) -> None:
    """Run the page alone."""
    from hanlin.page import PageOptions
    from hanlin.parts import ui

    ui(PageOptions(gateway, host, port, feedback, users, user_header, proxies))
