"""Reads a training configuration as what it is, text: parsed, never executed.

XTuner keeps its whole configuration inside the checkpoint, as Python source. Of that source only
assignments of plain values mean anything here: `dict(...)` and constructor calls become
dictionaries, names are looked up among earlier assignments and imports, and whatever would have
to be run to be known stays `Unknown`. That is an error only where its value is needed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TYPE = "type"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that only running the configuration would tell."""

    source: str


_OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def settings(text: str) -> dict[str, Any]:
    """What a configuration assigns at its top level.

    Raises:
        ValueError: it is not Python.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error
    reading = _Reading()
    for statement in tree.body:
        reading.take(statement)
    return reading.values


class _Reading:
    """One pass over a module, statement by statement."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._imported: dict[str, str] = {}

    def take(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Assign(targets=[ast.Name(name)], value=value):
                self.values[name] = self.value(value)
            case ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value):
                self.values[name] = self.value(value)
            case ast.Import(names):
                self._imported |= {alias.asname or alias.name: alias.name for alias in names}
            case ast.ImportFrom(module=str(module), names=names):
                self._imported |= {
                    alias.asname or alias.name: f"{module}.{alias.name}" for alias in names
                }
            case ast.With(body=body):  # mmengine's `with read_base():`
                for inner in body:
                    self.take(inner)

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return self._named(name, node)
            case ast.Attribute():
                return self._dotted(node)
            case ast.List(items) | ast.Tuple(items) | ast.Set(items):
                return [self.value(item) for item in items]
            case ast.Dict(keys, values):
                return self._dictionary(keys, values)
            case ast.Call():
                return self._called(node)
            case ast.UnaryOp(ast.USub(), operand) if _number(found := self.value(operand)):
                return -found
            case ast.BinOp():
                return self._computed(node)
        return Unknown(ast.unparse(node))

    def _named(self, name: str, node: ast.expr) -> Any:
        if name in self.values:
            return self.values[name]
        return self._imported.get(name, Unknown(ast.unparse(node)))

    def _dotted(self, node: ast.Attribute) -> Any:
        """`torch.float32` and `AutoTokenizer.from_pretrained` as the names they are."""
        root, _, rest = ast.unparse(node).partition(".")
        if root not in self._imported:
            return Unknown(ast.unparse(node))
        return f"{self._imported[root]}.{rest}"

    def _dictionary(self, keys: list[ast.expr | None], values: list[ast.expr]) -> Any:
        found: dict[Any, Any] = {}
        for key, value in zip(keys, values, strict=True):
            content = self.value(value)
            if key is not None:
                found[str(self.value(key))] = content
            elif isinstance(content, dict):
                found |= content
        return found

    def _called(self, node: ast.Call) -> Any:
        """`dict(r=64)` is a dictionary, and `LoraConfig(r=64)` one of that type."""
        given = self._dictionary(
            [ast.Constant(word.arg) if word.arg else None for word in node.keywords],
            [word.value for word in node.keywords],
        )
        if isinstance(node.func, ast.Name) and node.func.id == "dict":
            return given
        kind = self.value(node.func)
        if node.args or not isinstance(kind, str):
            return Unknown(ast.unparse(node))
        return {TYPE: kind, **given}

    def _computed(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        run = _OPERATIONS.get(type(node.op))
        text = isinstance(left, str) and isinstance(right, str) and isinstance(node.op, ast.Add)
        if run is None or not (text or (_number(left) and _number(right))):
            return Unknown(ast.unparse(node))
        try:
            return run(left, right)
        except (ZeroDivisionError, OverflowError):
            return Unknown(ast.unparse(node))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
