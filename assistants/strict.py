"""A YAML file written by a person, read strictly: what is wrong is one sentence with file and line.

Declarations of assistants are read so, and so is the gateway's file of keys.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from assistants.errors import DeclarationError, nearest

Place = Sequence[str | int]
M = TypeVar("M", bound=BaseModel)


_WANTED = {
    ("tuple_type", "list_type"): "a list, such as [one, two]",
    ("model_type", "dict_type"): "a mapping, such as {{key: value}}",
    ("string_type", "dataclass_type"): "a text (numbers in quotes)",
    ("int_type", "int_parsing", "int_from_float"): "a whole number",
    ("float_type", "float_parsing"): "a number",
    ("bool_type", "bool_parsing"): "true or false",
    ("string_too_short",): "a text that is not empty",
    ("too_long",): "a list of at most {max_length}",
    ("too_short",): "of at least {min_length} entry",
    ("greater_than_equal",): "at least {ge:.10g}",
    ("greater_than",): "more than {gt:.10g}",
    ("less_than_equal",): "at most {le:.10g}",
    ("less_than",): "less than {lt:.10g}",
}
"""What belongs in the place of a value, by the kinds of error that pydantic knows."""
_LONGEST = 60
"""Letters of a wrong value that are repeated."""

_TOO_DEEP = "nested too deeply to be read"
_SLIPS = {
    "found character '\\t' that cannot start any token": "indent with spaces, not with tabs",
    "mapping values are not allowed here": "put a text that contains ': ' in quotes",
    "but found another document": "one file is one document: take out the line ---",
}
"""What was likely meant, where YAML's own words say little."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: `on`, `yes` and `no` are the words they look like."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """What looks like a date or a number and is none (`2024-13-45`), with its line."""
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            shown = str(node.value)[:_LONGEST]
            raise yaml.constructor.ConstructorError(
                problem=f"'{shown}' is not a number or a date; if it is text, put it in quotes",
                problem_mark=node.start_mark,
            ) from error


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != _BOOL]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("true|false"), list("tf"))


class StrictFile:
    """One file whose top is a mapping, with the line of everything in it."""

    def __init__(self, path: Path, root: yaml.MappingNode) -> None:
        self.path = path
        self._root = root

    @classmethod
    def open(cls, path: Path, *, what: str) -> Self:
        """Read a file; `what` is the sentence said of one whose top is not a mapping.

        Raises:
            DeclarationError: it is not UTF-8, not YAML, not a mapping, or says something twice.
        """
        try:
            text = path.read_text(encoding="utf-8")
            root = yaml.compose(text, Loader=_Loader)
        except UnicodeDecodeError as error:
            raise DeclarationError(path, 1, f"not UTF-8 text (byte {error.start})") from error
        except yaml.MarkedYAMLError as error:
            raise _not_yaml(path, error) from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            problem = f"not YAML: the character U+{ord(text[error.position]):04X} is not allowed"
            raise DeclarationError(path, line, problem) from error
        except RecursionError as error:
            raise DeclarationError(path, 1, _TOO_DEEP) from error
        if not isinstance(root, yaml.MappingNode):
            raise DeclarationError(path, 1, what)
        _refuse_doubles(path, root)
        return cls(path, root)

    def read(self, model: type[M]) -> M:
        """The file as a model.

        Raises:
            DeclarationError: it says something unknown or impossible.
        """
        loader = _Loader("")
        try:
            data: Any = loader.construct_document(self._root)
        except yaml.MarkedYAMLError as error:
            raise _not_yaml(self.path, error) from error
        except RecursionError as error:
            raise DeclarationError(self.path, 1, _TOO_DEEP) from error
        finally:
            loader.dispose()
        try:
            return model.model_validate(data)
        except ValidationError as error:
            # A misspelt key comes as two errors, unknown and missing; the unknown one says more.
            first = min(error.errors(), key=lambda e: (e["type"] == "missing", self.line(e["loc"])))
            raise self.wrong(first["loc"], _sentence(model, first)) from error

    def line(self, place: Place) -> int:
        """The line (from 1) of what stands at `place`, or of the nearest thing around it."""
        node: yaml.Node = self._root
        line = node.start_mark.line + 1
        for part in place:
            child = _child(node, part)
            if child is None:
                break
            line, node = child
        return line

    def wrong(self, place: Place, problem: str) -> DeclarationError:
        """The error to raise about what stands at `place`."""
        return DeclarationError(self.path, self.line(place), problem)


def _not_yaml(path: Path, error: yaml.MarkedYAMLError) -> DeclarationError:
    mark = error.problem_mark or error.context_mark
    said = _SLIPS.get(str(error.problem), error.problem)
    return DeclarationError(path, mark.line + 1 if mark else 1, f"not YAML: {said}")


def _refuse_doubles(path: Path, root: yaml.Node) -> None:
    """YAML keeps the last of two equal keys in silence; a person meant one of them."""
    left, known = [root], {id(root)}  # an anchor's node is met wherever it is named
    while left:
        node = left.pop()
        inside = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            _refuse_doubles_of(path, node)
            inside = [value for _, value in node.value]
        left += [value for value in inside if id(value) not in known]
        known |= {id(value) for value in inside}


def _refuse_doubles_of(path: Path, node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise DeclarationError(path, line, "put a text that starts with { or [ in quotes")
        if key.value in seen:
            raise DeclarationError(path, line, f"'{key.value}' is given twice")
        seen.add(key.value)


def _sentence(model: type[BaseModel], error: ErrorDetails) -> str:
    place = [str(part) for part in error["loc"]]
    where = ".".join(place)
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        near = nearest(place[-1], known)
        hint = f"did you mean '{near}'?" if near else f"known are {', '.join(known)}"
        inside = f" in {'.'.join(place[:-1])}" if len(place) > 1 else ""
        return f"unknown key '{place[-1]}'{inside}; {hint}"
    if error["type"] == "missing":
        return f"'{where}' is missing"
    if error["type"] in ("literal_error", "enum"):
        return f"{where}: '{error['input']}' is not one of {error['ctx']['expected']}"
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
    elif error["type"] == "string_pattern_mismatch":
        message = f"'{error['input']}' is not a name (small letters, digits, '.', '_' and '-')"
    else:
        message = f"must be {_wanted(error)}, not {_shown(error['input'])}"
    if error["type"] == "dataclass_type":  # one kind of several, which is nothing in the file
        where = ".".join(place[:-1])
    return f"{where}: {message}" if where else message


def _wanted(error: ErrorDetails) -> str:
    """What belongs there, in words that speak of the file."""
    for kinds, wanted in _WANTED.items():
        if error["type"] in kinds:
            return wanted.format(**error.get("ctx", {}))
    return error["msg"].removeprefix("Input should be ")


def _shown(found: Any) -> str:
    short = reprlib.Repr()  # it ends where an anchor leads back to itself, or unfolds to gigabytes
    short.maxstring = short.maxlong = short.maxother = 2 * _LONGEST
    text = "nothing" if found is None else short.repr(found)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _fields_at(model: Any, place: Place) -> list[str]:
    """The keys that are known at a place of a file."""
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


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value.start_mark.line + 1, value
    return None
