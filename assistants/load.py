"""From a folder of YAML files to a house of assistants, or one sentence with file and line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from assistants.errors import DeclarationError, HanlinError, UnknownAssistantError, nearest
from assistants.schema import Assistant

Place = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: `on`, `yes` and `no` are the words they look like."""


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != _BOOL]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("true|false"), list("tf"))


@dataclass(frozen=True, slots=True)
class House:
    """All declared assistants, in the order of their names, and the folder they were read from."""

    folder: Path
    assistants: tuple[Assistant, ...]

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
        return House(self.folder, tuple(a for a in self.assistants if a.name in chosen))


def load_house(folder: Path) -> House:
    """Read every `*.yaml` and `*.yml` file of a folder, one assistant each.

    Raises:
        HanlinError: the folder is missing or holds no declaration.
        DeclarationError: a file is not YAML, says something unknown or impossible, or takes a name
            that another file has taken.
    """
    if not folder.is_dir():
        raise HanlinError(
            f"There is no folder {folder}; name the assistants' folder with --assistants."
        )
    files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    if not files:
        raise HanlinError(f"{folder} holds no assistant; declare one in {folder / 'NAME.yaml'}.")
    assistants = []
    taken: dict[str, Path] = {}
    for path in files:
        root = _compose(path)
        assistant = _read(path, root)
        for name in (assistant.name, *assistant.aliases):
            if name in taken:
                line = _line(root, ("name",) if name == assistant.name else ("aliases",))
                raise DeclarationError(path, line, f"'{name}' is already taken by {taken[name]}")
            taken[name] = path
        assistants.append(assistant)
    return House(folder.resolve(), tuple(sorted(assistants, key=lambda a: a.name)))


def _compose(path: Path) -> yaml.Node:
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise DeclarationError(path, 1, f"not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(path, error) from error
    except yaml.YAMLError as error:
        raise DeclarationError(path, 1, f"not YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise DeclarationError(path, 1, "a declaration is a mapping that begins with name:")
    _refuse_doubles(path, root)
    return root


def _not_yaml(path: Path, error: yaml.MarkedYAMLError) -> DeclarationError:
    mark = error.problem_mark or error.context_mark
    return DeclarationError(path, mark.line + 1 if mark else 1, f"not YAML: {error.problem}")


def _refuse_doubles(path: Path, node: yaml.Node) -> None:
    """YAML keeps the last of two equal keys in silence; a person meant one of them."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise DeclarationError(path, key.start_mark.line + 1, f"'{key.value}' stands twice")
            seen.add(key.value)
            _refuse_doubles(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_doubles(path, value)


def _read(path: Path, root: yaml.Node) -> Assistant:
    loader = _Loader("")
    try:
        data: Any = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(path, error) from error
    finally:
        loader.dispose()
    try:
        return Assistant.model_validate(data)
    except ValidationError as error:
        # A misspelt key comes as two errors, unknown and missing; the unknown one says more.
        first = min(error.errors(), key=lambda e: (e["type"] == "missing", _line(root, e["loc"])))
        raise DeclarationError(path, _line(root, first["loc"]), _sentence(first)) from error


def _sentence(error: ErrorDetails) -> str:
    place = [str(part) for part in error["loc"]]
    where = ".".join(place)
    if error["type"] == "extra_forbidden":
        known = _fields_at(error["loc"][:-1])
        near = nearest(place[-1], known)
        hint = f"did you mean '{near}'?" if near else f"known are {', '.join(known)}"
        inside = f" in {'.'.join(place[:-1])}" if len(place) > 1 else ""
        return f"unknown key '{place[-1]}'{inside}; {hint}"
    if error["type"] == "missing":
        return f"'{where}' is missing"
    if error["type"] in ("literal_error", "enum"):
        return f"{where}: '{error['input']}' is not one of {error['ctx']['expected']}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        message = f"'{error['input']}' is not a name (small letters, digits, '.', '_' and '-')"
    elif error["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, not {error['input']!r}"
    return f"{where}: {message}" if where else message


def _fields_at(place: Place) -> list[str]:
    """The keys that are known at a place of the declaration."""
    model: Any = Assistant
    for part in place:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is None:
            continue  # a key of a free mapping, such as a control's name
        model = _model_in(field.annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(inner) for inner in getattr(annotation, "__args__", ()))
    return next((model for model in found if model), None)


def _line(node: yaml.Node, place: Place) -> int:
    """The line (from 1) of what stands at `place`, or of the nearest thing around it."""
    line = node.start_mark.line + 1
    for part in place:
        child = _child(node, part)
        if child is None:
            break
        line, node = child
    return line


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value.start_mark.line + 1, value
    return None
