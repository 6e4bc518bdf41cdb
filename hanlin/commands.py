"""Every command with its options, on one screen; what they do is imported when they are called."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

RUN, BUILD, PARTS = "Run", "Build", "One part alone (containers, debugging)"

app = typer.Typer(
    name="hanlin",
    help="翰林 Hanlin: a house of fine-tuned assistants behind one OpenAI-compatible endpoint.",
    epilog="An assistant is one file in assistants/. Start with: hanlin up",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class EngineName(StrEnum):
    """What serves the models; auto takes what the machine can run."""

    auto = "auto"
    turbomind = "turbomind"
    llamacpp = "llamacpp"


Engine = Annotated[EngineName, typer.Option(help="What serves the models.")]
Assistants = Annotated[Path, typer.Option(metavar="DIR", help="Where the assistants are declared.")]
Workspaces = Annotated[Path, typer.Option(metavar="DIR", help="Where workspaces are built.")]
Host = Annotated[str, typer.Option(metavar="H", help="Address to listen on; 0.0.0.0 for all.")]
Port = Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="Port to listen on.")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]…", help="Assistants; all where none is named.")
]

Keys = Annotated[
    Path | None,
    typer.Option(metavar="FILE", envvar="HANLIN_KEYS_FILE", help="Who may use the gateway."),
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
LogPrompts = Annotated[
    bool, typer.Option("--log-prompts", help="Write what is asked into the access log.")
]

AcceptFidelity = Annotated[
    bool,
    typer.Option("--accept-fidelity", help="Take the result however far it is from its original."),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]

AUTO = EngineName.auto
ASSISTANTS, WORKSPACES = Path("assistants"), Path("workspaces")
LOOPBACK = "127.0.0.1"


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        app(list(arguments))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


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
) -> None:
    """Build what is not built, start engines, gateway and page; Ctrl-C stops all."""
    from hanlin.up import UpSettings, up

    page = ui_port if ui else None
    up(UpSettings(engine.value, assistants, workspaces, host, port, page, keys))


@app.command(rich_help_panel=RUN)
def chat(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The assistant.")],
    gateway: Annotated[
        str, typer.Option(metavar="URL", envvar="HANLIN_GATEWAY", help="Where the gateway is.")
    ] = "http://127.0.0.1:8000",
) -> None:
    """Talk to an assistant in the terminal; RESET clears the conversation, EXIT leaves."""
    from hanlin.chat import chat

    chat(name, gateway)


@app.command(rich_help_panel=RUN)
def key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What logs call its holder.")],
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Put its entry into this file.")
    ] = None,
    assistant: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What it may use; repeatable.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Requests at once.")
    ] = None,
) -> None:
    """Make a key for the gateway; it is shown this once."""
    from hanlin.key import make

    limits = {
        "assistants": assistant,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrency": concurrency,
    }
    make(name, file, limits)


@app.command(rich_help_panel=BUILD)
def convert(
    names: Names = None,
    engine: Engine = AUTO,
    assistants: Assistants = ASSISTANTS,
    workspaces: Workspaces = WORKSPACES,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Build also what is built.")] = False,
    accept_fidelity: AcceptFidelity = False,
) -> None:
    """Build the workspaces of assistants from their declarations."""
    from hanlin.build import BuildSettings, convert

    settings = BuildSettings(engine.value, assistants, workspaces, tuple(names or ()))
    convert(settings, dry_run=dry_run, force=force, accept_fidelity=accept_fidelity)


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
    """Make a PEFT adapter (a full fine-tune: a model) of a training checkpoint."""
    from hanlin.build import adapter

    adapter(checkpoint, out, base)


@app.command(rich_help_panel=BUILD)
def merge(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The base model's folder.")],
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The adapter's folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    max_shard_size: Annotated[str, typer.Option(metavar="SIZE", help="Of one file.")] = "5GB",
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
    method: Annotated[str, typer.Option(metavar="awq", help="How.")] = "awq",
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="Where.")] = "cpu",
    tool: Annotated[
        str, typer.Option(metavar="hanlin|lmdeploy", help="Ours, or lmdeploy lite auto_awq.")
    ] = "hanlin",
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="Threads on a CPU.")] = 2,
    accept_fidelity: AcceptFidelity = False,
) -> None:
    """Quantise a model to 4 bits, one decoder layer in memory at a time."""
    from hanlin.build import Dialogues, quantize

    chosen = {"samples": samples, "seqlen": seqlen, "method": method, "device": device,
              "tool": tool, "threads": threads}  # fmt: skip
    dialogues = Dialogues(calibration, assistant, assistants)
    quantize(model, out, dialogues, chosen, accept_fidelity=accept_fidelity)


@app.command(rich_help_panel=BUILD)
def verify(
    workspace: Annotated[Path, typer.Argument(metavar="WORKSPACE", help="Its folder.")],
    tp: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="GPUs it is to be split over.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every rule a workspace must keep to be loaded and to answer well."""
    from hanlin.inspect import verify

    raise typer.Exit(verify(workspace, tp=tp, as_json=as_json))


@app.command(rich_help_panel=BUILD)
def plan(
    gpu: Annotated[
        list[str] | None, typer.Option(metavar="SIZE", help="A GPU, such as 24GiB; repeatable.")
    ] = None,
    assistants: Assistants = ASSISTANTS,
    workspaces: Workspaces = WORKSPACES,
    as_json: Json = False,
) -> None:
    """Which assistants fit which GPUs, with which share of memory and in which order."""
    from hanlin.inspect import plan

    plan(gpu or [], assistants, workspaces, as_json=as_json)


@app.command(rich_help_panel=PARTS)
def gateway(
    engines: Annotated[
        str | None, typer.Option(metavar="URL", help="The engine host to follow.")
    ] = None,
    assistants: Assistants = ASSISTANTS,
    host: Host = LOOPBACK,
    port: Port = 8000,
    keys: Keys = None,
    limits_url: Limits = None,
    log_prompts: LogPrompts = False,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, help="Processes that share the port.")
    ] = 1,
) -> None:
    """The OpenAI-compatible endpoint."""
    from hanlin.parts import GatewayOptions, gateway

    gateway(assistants, GatewayOptions(engines, host, port, keys, limits_url, log_prompts, workers))


@app.command(rich_help_panel=PARTS)
def engines(
    engine: Engine = AUTO,
    assistants: Assistants = ASSISTANTS,
    workspaces: Workspaces = WORKSPACES,
    host: Host = LOOPBACK,
    port: Port = 8001,
) -> None:
    """The engines of this host, under supervision."""
    from hanlin.parts import engines

    engines(engine.value, assistants, workspaces, host=host, port=port)


@app.command(rich_help_panel=PARTS)
def ui(
    gateway: Annotated[
        str, typer.Option(metavar="URL", envvar="HANLIN_GATEWAY", help="Where the gateway is.")
    ] = "http://127.0.0.1:8000",
    host: Host = LOOPBACK,
    port: Port = 7860,
) -> None:
    """The page."""
    from hanlin.parts import ui

    ui(gateway, host=host, port=port)
