"""From a folder of YAML files to a house of assistants, or one sentence with file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from assistants.errors import HanlinError, UnknownAssistantError
from assistants.schema import Assistant
from assistants.strict import StrictFile

NO_DECLARATION = "a declaration is a mapping that begins with name:"
PARTS = ("gateway", "page", "engines")
"""What the command calls the parts of a house where it otherwise names an assistant."""


@dataclass(frozen=True, slots=True)
class House:
    """All declared assistants, in the order of their names, and the folder they were read from."""

    folder: Path
    assistants: tuple[Assistant, ...]
    files: Mapping[str, StrictFile] = field(default_factory=dict, compare=False, repr=False)
    """What each was read from, for those that were read from a file."""

    def __iter__(self) -> Iterator[Assistant]:
        return iter(self.assistants)

    @property
    def names(self) -> list[str]:
        return [assistant.name for assistant in self.assistants]

    def get(self, name: str) -> Assistant:
        """The assistant of that name or alias.

        Raises:
            UnknownAssistantError: nobody is called that; it names the nearest that is.
        """
        for assistant in self.assistants:
            if name == assistant.name or name in assistant.aliases:
                return assistant
        raise UnknownAssistantError(name, self.names)

    def pick(self, names: Iterable[str]) -> House:
        """The house with only these assistants, or with all of them where none is named."""
        chosen = {self.get(name).name for name in names}
        if not chosen:
            return self
        return replace(self, assistants=tuple(a for a in self.assistants if a.name in chosen))

    def where(self, name: str, place: Sequence[str | int]) -> str:
        """Where something stands in an assistant's declaration, to begin a sentence with."""
        file = self.files.get(name)
        return f"{file.path}:{file.line(place)}: " if file else ""


def declarations(folder: Path) -> list[Path]:
    """The files of a folder that declare assistants. Hidden ones are none: editors and macOS leave
    such files beside the one that is being edited."""
    found = (path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    return sorted(path for path in found if not path.name.startswith("."))


def load_house(folder: Path) -> House:
    """Read every `*.yaml` and `*.yml` file of a folder that is not hidden, one assistant each.

    Raises:
        HanlinError: the folder is missing, is none, or holds no declaration.
        DeclarationError: a file is not YAML, says something unknown or impossible, or takes a name
            that another file or a part of the house has taken.
    """
    if folder.is_file():
        raise HanlinError(f"{folder} is a file; name the folder it is in with --assistants.")
    if not folder.is_dir():
        raise HanlinError(
            f"There is no folder {folder}; name the assistants' folder with --assistants."
        )
    files = declarations(folder)
    if not files:
        raise HanlinError(f"{folder} declares no assistant; declare one in {folder / 'NAME.yaml'}.")
    assistants = []
    taken: dict[str, Path] = {}
    read: dict[str, StrictFile] = {}
    for path in files:
        file = StrictFile.open(path, what=NO_DECLARATION)
        assistant = file.read(Assistant)
        for name in (assistant.name, *assistant.aliases):
            place = ["name" if name == assistant.name else "aliases"]
            if name in PARTS:
                raise file.wrong(place, f"'{name}' is a part of every house; choose another name")
            if name in taken:
                if taken[name] == path:
                    raise file.wrong(["aliases"], f"'{name}' is already its own name")
                raise file.wrong(place, f"'{name}' is already taken by {taken[name]}")
            taken[name] = path
        assistants.append(assistant)
        read[assistant.name] = file
    return House(folder.resolve(), tuple(sorted(assistants, key=lambda a: a.name)), read)
