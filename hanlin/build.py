"""`convert`, `adapter`, `merge` and `quantize`, with their progress drawn on the screen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from assistants.load import House
    from convert.plan import Engine
    from convert.quantize import Settings
    from convert.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Computing:
    """How 4-bit weights are computed; no `threads`, all that this process may use."""

    device: str = "auto"
    threads: int | None = None
    accept_fidelity: bool = False

    def settings(self, **chosen: Any) -> Settings:
        """The same for `convert`, with what else was chosen."""
        from convert.quantize import Settings
        from hanlin.machine import cores

        settings = Settings(device=self.device, threads=self.threads or cores(), **chosen)
        return replace(settings, limit=None) if self.accept_fidelity else settings


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What is built, from where and for which engine."""

    engine: str
    assistants: Path
    workspaces: Path
    names: tuple[str, ...] = ()
    computing: Computing = Computing()

    def house(self) -> House:
        from assistants.load import load_house  # pydantic: not for a merge

        return load_house(self.assistants).pick(self.names)

    @property
    def engine_name(self) -> Engine:
        from serve.engines.backends.registry import choose  # the engines' HTTP client

        return cast("Engine", choose("auto").name if self.engine == "auto" else self.engine)


class Bars:
    """`convert.progress.Progress` as bars; on a screen that is none, one line for each task."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._given_up = False

    def task(self, label: str, total_bytes: int | None) -> Bar:
        self.go_on()
        console = self._progress.console
        if not console.is_terminal:
            console.print(label, markup=False, highlight=False)
        return Bar(self, self._progress, self._progress.add_task(label, total=total_bytes))

    def give_up(self) -> None:
        """Have the thread that builds end at its next step, as Ctrl-C would have it end."""
        self._given_up = True

    def go_on(self) -> None:
        if self._given_up:
            raise KeyboardInterrupt


class Bar:
    """One thing that is going on."""

    def __init__(self, bars: Bars, progress: Progress, task: TaskID) -> None:
        self._bars = bars
        self._progress = progress
        self._task = task

    def advance(self, n: int) -> None:
        self._bars.go_on()
        self._progress.advance(self._task, n)


@contextlib.contextmanager
def bars(console: Console) -> Iterator[Bars]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress)


def build(settings: BuildSettings, watched: Bars, *, force: bool = False) -> list[Workspace]:
    """Bring every workspace up to date."""
    from convert.run import build

    return build(
        settings.house(),
        engine=settings.engine_name,
        workspaces=settings.workspaces,
        force=force,
        quantising=settings.computing.settings(),
        progress=watched,
    )


def convert(settings: BuildSettings, *, dry_run: bool, force: bool) -> None:
    """Build, or only say what would be built."""
    console = _console()
    if dry_run:
        _plan(settings, console)
        return
    with bars(console) as watched:
        built = build(settings, watched, force=force)
    width = max((len(workspace.assistant) for workspace in built), default=0)
    for workspace in built:
        state = "built" if workspace.rebuilt else "was built already"
        console.print(f"{workspace.assistant:<{width}}  {state}  {workspace.folder}", markup=False)


def _plan(settings: BuildSettings, console: Console) -> None:
    from convert.plan import describe
    from convert.run import plans

    house, engine = settings.house(), settings.engine_name
    for plan in plans(house, engine=engine, workspaces=settings.workspaces):
        console.print(describe(plan), markup=False)


def adapter(checkpoint: Path, out: Path, base: Path | None) -> None:
    """Convert a training checkpoint, and say what came of it."""
    from convert.checkpoint import convert_adapter

    console = _console()
    with bars(console) as watched:
        made = convert_adapter(checkpoint, out, watched, base=base)
    console.print(f"{out} is the {made.kind} in {made.checkpoint}.", markup=False)
    if made.lacks:
        console.print(f"It still lacks {made.lacks}.", markup=False)


def merge(base: Path, adapter: Path, out: Path, *, max_shard_size: str) -> None:
    """Merge an adapter into its base, as a folder of its own."""
    from convert.merged_folder import merge
    from convert.weights.shards import parse_size

    limit = parse_size(max_shard_size)
    console = _console()
    with bars(console) as watched:
        merge(base, adapter, out, max_shard_size=limit, progress=watched)
    console.print(f"{out} is the merged model.", markup=False)


def _console() -> Console:
    return Console(soft_wrap=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Dialogues:
    """What a model is calibrated on: a file, or the dialogues of an assistant."""

    file: Path | None
    assistant: str | None
    assistants: Path

    def path(self, model: Path) -> Path:
        """The file; without one named, what the assistant named or the model's own has.

        Raises:
            HanlinError: there is none.
        """
        if self.file is not None:
            return self.file
        from assistants.load import load_house
        from convert.dialogues import calibration_for

        return calibration_for(model, self.assistant, lambda: load_house(self.assistants))


def quantize(model: Path, out: Path, dialogues: Dialogues, settings: Settings) -> None:
    """Quantise a model's folder, and say how close the result is."""
    from convert.quantize import quantize

    calibration = dialogues.path(model)
    console = _console()
    console.print(f"Calibrating on {calibration}.", markup=False)
    with bars(console) as watched:
        done = quantize(model, out, calibration=calibration, settings=settings, progress=watched)
    fidelity = done.manifest()["fidelity"]
    console.print(f"{out} is the model in 4 bits: {json.dumps(fidelity)}", markup=False)
