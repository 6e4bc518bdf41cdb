"""Carries plans out: what `hanlin convert`, `hanlin up` and `hanlin merge` call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from assistants import Assistant, House
from assistants.weights import Local, Weights
from convert import owner
from convert import plan as planning
from convert.assemble import reuse
from convert.dialogues import declared, dialogues_of
from convert.digests import Remembered, of
from convert.errors import AdapterError, BuildError, DeclaredError, FetchError
from convert.fetch.fetcher import Fetcher
from convert.plan import Engine, Input, Inputs, Plan
from convert.positions import length
from convert.progress import Progress, Unwatched
from convert.publish import locked, staged
from convert.quantize import Settings, require_torch
from convert.relayout import layout_of
from convert.weights.model_folder import companions, read_json, weight_files
from convert.workspace import CACHE, Workspace, built_digests, place


def plans(house: House, *, engine: Engine, workspaces: Path) -> list[Plan]:
    """What would be done; nothing is fetched or built.

    Raises:
        ConvertError: an input is missing, or a declaration asks for what cannot be made.
    """
    return _Workshop.open(house, engine, workspaces, Unwatched()).plans()


def build(
    house: House,
    *,
    engine: Engine,
    workspaces: Path,
    force: bool = False,
    quantising: Settings | None = None,
    progress: Progress | None = None,
) -> list[Workspace]:
    """Build what is not built yet: one workspace per assistant whose engine runs here.

    Raises:
        FidelityError: a result is further from what it was made of than is allowed; where
            `quantising` has no limit it is taken all the same.
        ConvertError: something cannot be built; workspaces that were there are untouched.
    """
    workshop = _Workshop.open(house, engine, workspaces, progress or Unwatched())
    workshop = replace(workshop, quantising=quantising or Settings())
    # All plans first: a mistake in the last assistant shows before the first hour of work.
    made = workshop.plans()
    if any(plan.calibration and (force or not plan.weights_built) for plan in made):
        require_torch()
    return [workshop.carry_out(plan, force=force) for plan in made]


@dataclass(frozen=True, slots=True)
class _Workshop:
    """One run: what all its plans share."""

    house: House
    engine: Engine
    workspaces: Path
    known: Remembered
    fetcher: Fetcher
    progress: Progress
    quantising: Settings = field(default_factory=Settings)

    @classmethod
    def open(cls, house: House, engine: Engine, workspaces: Path, progress: Progress) -> _Workshop:
        workspaces = workspaces.resolve()
        if workspaces.exists() and not workspaces.is_dir():
            raise BuildError(f"{workspaces} is a file; name a folder with --workspaces.")
        cache = workspaces / CACHE
        known = Remembered(cache / "digests.json")
        return cls(house, engine, workspaces, known, Fetcher(cache, progress), progress)

    def plans(self) -> list[Plan]:
        local = [a for a in self.house if not a.upstreams]
        found = [self.plan(assistant) for assistant in local]
        if self.workspaces.is_dir():
            self.known.keep()
        return found

    def plan(self, assistant: Assistant) -> Plan:
        model, name = assistant.model, assistant.name
        with self._saying_where(name, "model", "adapter"):
            adapter = self._input(model.adapter, is_base=False) if model.adapter else None
        with self._saying_where(name, "model", "base"):
            base = self._input(model.base, is_base=True)
        if base.path is not None and base.path.is_dir():
            with self._saying_where(name, "model", "base"):  # before the first hour of work
                length(assistant, self.engine, read_json(base.path / "config.json"))
        dialogues = dialogues_of(assistant, self.house)
        inputs = Inputs(base, adapter, self._calibration(assistant, dialogues), dialogues)
        target = place(self.workspaces, assistant.name, self.engine)
        made = planning.make(
            assistant, self.engine, inputs, target=target, built=built_digests(target)
        )
        if not made.done and (declared := self._declared_in(name)):
            owner.require(target.parent, declared)
        return made

    def _declared_in(self, name: str) -> Path | None:
        """The file that declares an assistant; None for a house that was read from none."""
        file = self.house.files.get(name)
        return self.house.folder / file.path.name if file else None

    def _input(self, given: Weights, *, is_base: bool) -> Input:
        path = self.fetcher.here(given, self.house.folder)
        needs = (_of_base(path) if is_base else _of_adapter(path)) if path else None
        if not isinstance(given, Local):  # pinned: the reference itself says which content
            return Input(str(given), of(str(given)), path, needs)
        assert path is not None  # a local reference is here or has raised
        files = _files(path, is_base=is_base, is_checkpoint=bool(needs) and not is_base)
        digest = self.known.of_files(f for f in files if f.exists())
        return Input(str(given), digest, path, needs)

    def _calibration(self, assistant: Assistant, dialogues: Path | None) -> Input | None:
        """What 4-bit weights are fitted to.

        Raises:
            BuildError: there is nothing.
        """
        if self.engine != "turbomind" or assistant.turbomind.quantize == "none":
            return None
        if dialogues is None:
            raise BuildError(
                f"The assistant '{assistant.name}' is to be quantised (turbomind.quantize: awq), "
                f"but there are no dialogues {declared(assistant)} to fit it to; name them with "
                "turbomind.calibration, or set quantize: none."
            )
        return Input(declared(assistant), self.known.of_files([dialogues]), dialogues)

    def carry_out(self, plan: Plan, *, force: bool) -> Workspace:
        name, target = plan.assistant.name, plan.target
        if plan.done and not force:
            self._own(plan)
            return Workspace(name, self.engine, target, rebuilt=False)
        fetched = self._fetched(plan)
        try:
            with (
                self._saying_where(name, "model"),
                locked(target, lambda: self._waiting(name)),
            ):
                now = self.plan(plan.assistant)  # another builder may just have made it
                self.known.keep()
                if now.done and not force:
                    self._own(now)
                    return Workspace(name, self.engine, target, rebuilt=False)
                with staged(target) as folder:
                    if now.weights_built and not force:
                        reuse(now, folder)
                    else:
                        from convert import steps  # gguf: not for a run with no work

                        base, adapter = self._adapted(now, fetched)
                        job = steps.Job(now, base, adapter, self.progress, self.quantising)
                        steps.build(job, folder)
                    from convert.verify import demand  # its rules: not for a run with no work

                    demand(folder)
                self._own(now)
        except PermissionError as error:
            path = Path(error.filename or target)
            verb = "written" if self.workspaces in (path, *path.parents) else "read"
            raise BuildError(f"{path} cannot be {verb}: {error.strerror}.") from error
        return Workspace(name, self.engine, target, rebuilt=True)

    def _fetched(self, plan: Plan) -> tuple[Path, Path | None]:
        model, name = plan.assistant.model, plan.assistant.name
        with self._saying_where(name, "model", "base"):
            base = self.fetcher.fetch(model.base, self.house.folder)
        if model.adapter is None:
            return base, None
        with self._saying_where(name, "model", "adapter"):
            return base, self.fetcher.fetch(model.adapter, self.house.folder)

    def _adapted(self, plan: Plan, fetched: tuple[Path, Path | None]) -> tuple[Path, Path | None]:
        base, adapter = fetched
        if adapter is None or plan.adapter is None or plan.adapter.needs is None:
            return fetched
        from convert.checkpoint import adapter_folder

        digest = plan.digests["adapter"]
        place = self.workspaces / CACHE / "adapters" / digest[:16]
        return base, adapter_folder(adapter, place, self.progress)

    @contextmanager
    def _saying_where(self, name: str, *place: str) -> Iterator[None]:
        """Put file and line before the sentence of an error that the declaration can be blamed for;
        `place` is what is read from it meanwhile."""
        try:
            yield
        except DeclaredError as error:
            raise BuildError(f"{self.house.where(name, error.place)}{error}") from error
        except (AdapterError, FetchError) as error:
            raise type(error)(f"{self.house.where(name, place)}{error}") from error

    def _own(self, plan: Plan) -> None:
        if declared := self._declared_in(plan.assistant.name):
            owner.write_down(plan.target.parent, declared)

    def _waiting(self, name: str) -> None:
        self.progress.task(f"{name}: waiting for another hanlin that is building it", None)


def _of_base(path: Path) -> str | None:
    """Why a base takes a step before engines load it."""
    if not (path / "config.json").is_file():
        return None
    layout = layout_of(read_json(path / "config.json"))
    return f"TurboMind no longer loads the architecture: {layout.said}" if layout else None


def _of_adapter(path: Path) -> str | None:
    """Why an adapter takes a step before it can be merged."""
    if (path / "adapter_config.json").is_file():
        return None
    from convert.checkpoint import explained, is_checkpoint  # not for a run with no checkpoint

    return explained(path) if is_checkpoint(path) else None


def _files(path: Path, *, is_base: bool, is_checkpoint: bool) -> list[Path]:
    """The files that decide what comes of an input."""
    if is_checkpoint:
        from convert.checkpoint import files

        return files(path)
    found = weight_files(path)
    if path.is_dir():
        found += companions(path) if is_base else [path / "adapter_config.json"]
    return found
