"""The declaration: what an assistant is, said once in YAML and read by every room of the house."""

from assistants.errors import DeclarationError, HanlinError, UnknownAssistantError
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
