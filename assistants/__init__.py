"""The declaration: what an assistant is, written once in YAML and read by every other package.

Its errors stand behind those of every room, so reading and checking declarations (pydantic, YAML)
is imported only where it is asked for: a merge needs none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assistants.errors import DeclarationError, HanlinError, UnknownAssistantError

if TYPE_CHECKING:
    from assistants.load import House, load_house
    from assistants.schema import Assistant, Control, Limits, Model, Sampling, Text

__all__ = [
    "Assistant",
    "Control",
    "DeclarationError",
    "HanlinError",
    "House",
    "Limits",
    "Model",
    "Sampling",
    "Text",
    "UnknownAssistantError",
    "load_house",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "assistants.load" if name in ("House", "load_house") else "assistants.schema"
    return getattr(import_module(home), name)
