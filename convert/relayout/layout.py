"""What a retired architecture's layout knows: how it is written as one that engines still load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from convert.errors import DamagedError, writing
from convert.relayout.views import View
from convert.weights.model_folder import companions, read_json
from convert.weights.output import write_text
from convert.weights.tensors import TensorSource

CONFIG = "config.json"
GENERATION = "generation_config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"

Json = dict[str, Any]


class Layout(Protocol):
    """A retired architecture and the living one it is laid out as."""

    architecture: str
    """As `config.json` names it."""
    said: str
    """For people: "InternLM v1 as Llama with attention biases"."""

    def config(self, config: Mapping[str, Any]) -> Json:
        """The same model's configuration in the living architecture.

        Raises:
            UnsupportedError: it uses something the living architecture cannot express.
        """

    def tensors(self, source: TensorSource, config: Mapping[str, Any]) -> View:
        """The same weights in the living architecture's names and shapes."""

    def tokenizer(self, base: Path) -> dict[str, Json | str]:
        """The files, by name, that replace the tokenizer's remote code.

        Raises:
            UnsupportedError: a tokenizer whose ids could not be kept.
        """


def write_companions(layout: Layout, base: Path, folder: Path, config: Mapping[str, Any]) -> None:
    """Everything beside the weights: no remote code is left, for nothing needs it any more."""
    made = {CONFIG: dict(config), **layout.tokenizer(base)}
    for path in companions(base):
        if path.suffix == ".py" or path.name in made:
            continue
        try:
            shutil.copyfile(path, folder / path.name)
        except OSError as error:
            raise writing(folder / path.name, error) from error
    for name, content in made.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        write_text(folder / name, text)


def optional_json(path: Path) -> Json:
    return read_json(path) if path.exists() else {}


def text_of(token: Any) -> str | None:
    """A special token as configurations write it: plain, or with its properties."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def generation(base: Path, stops: list[int]) -> Json:
    """The base's generation settings, with every id that ends an answer."""
    found = optional_json(base / GENERATION)
    known = found.get("eos_token_id", [])
    ends = [*(known if isinstance(known, list) else [known]), *stops]
    return {**found, "eos_token_id": list(dict.fromkeys(ends))}


def number(config: Mapping[str, Any], key: str) -> int:
    """A size that a configuration cannot do without."""
    found = config.get(key)
    if not isinstance(found, int):
        raise DamagedError(Path(CONFIG), f"has no {key}.")
    return found
