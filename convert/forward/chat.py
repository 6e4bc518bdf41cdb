"""A model's own chat template and tokenizer, without the transformers package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from convert.chat_template import TemplateError, render
from convert.errors import DamagedError, UnsupportedError
from convert.weights.model_folder import read_json

Message = dict[str, Any]

TEMPLATE = "chat_template.jinja"
_TOKENIZER = "tokenizer.json"

_DAY = datetime(2024, 7, 26, tzinfo=UTC)
"""For templates that write the date: the same dialogues are the same text on every day. It is the
day that Llama's own template falls back to."""


@dataclass(frozen=True, slots=True)
class Chat:
    """How a conversation becomes text, and text token ids."""

    folder: Path
    template: str
    names: Mapping[str, str]
    """bos_token and the like, as templates speak of them."""
    tokenizer: Tokenizer

    def text(self, messages: list[Message]) -> str:
        """A whole conversation, answers included.

        Raises:
            UnsupportedError: the template refuses it.
        """
        try:
            return render(self.template, messages, self.names, opens=False, now=_DAY)
        except TemplateError as error:
            raise UnsupportedError(
                f"{self.folder}: its chat template, given a calibration dialogue, {error}."
            ) from error

    def tokens(self, messages: list[Message]) -> list[int]:
        ids: list[int] = self._encoded(messages).ids
        return ids

    def answers(self, messages: list[Message]) -> list[bool]:
        """Of each token of `tokens`, whether the assistant says it; the one that ends an answer,
        which a fine-tune learns too, is said by it."""
        spoken = list(_spoken(self.text(messages), messages))
        found: list[bool] = []
        within = False
        for begin, end in self._encoded(messages).offsets:
            here = any(begin < stop and end > start for start, stop in spoken)
            found.append(here or within)
            within = here
        return found

    def _encoded(self, messages: list[Message]) -> Encoding:
        return self.tokenizer.encode(self.text(messages), add_special_tokens=False)


def read_chat(folder: Path) -> Chat:
    """The chat template and the tokenizer of a model folder.

    Raises:
        UnsupportedError: it has no template, or a tokenizer that only other programs read.
    """
    if not (folder / _TOKENIZER).exists():
        kind = (
            "only a SentencePiece tokenizer.model"
            if (folder / "tokenizer.model").exists()
            else "none"
        )
        raise UnsupportedError(
            f"{folder} has no tokenizer.json ({kind}); write one with transformers: "
            "AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)."
        )
    config = read_json(folder / "tokenizer_config.json")
    names = {
        key: value["content"] if isinstance(value, dict) else value
        for key, value in config.items()
        if key.endswith("_token") and isinstance(value, (str, dict))
    }
    try:
        tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    except Exception as error:  # the package raises nothing narrower
        raise DamagedError(folder / _TOKENIZER, f"is not a tokenizer: {error}.") from error
    return Chat(folder, _template(folder, config), names, tokenizer)


def _spoken(text: str, messages: list[Message]) -> Iterator[tuple[int, int]]:
    """Where the assistant's words stand in a rendered conversation. Messages come in their order,
    so each is looked for behind the one before; what a template leaves out is nowhere."""
    behind = 0
    for message in messages:
        content = message["content"].strip()  # as many templates do
        start = text.find(content, behind)
        if start < 0:
            continue
        behind = start + len(content)
        if message["role"] == "assistant":
            yield start, behind


def _template(folder: Path, config: Mapping[str, Any]) -> str:
    path = folder / TEMPLATE
    if path.exists():
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((t.get("template") for t in found if t.get("name") == "default"), None)
    if not isinstance(found, str):
        raise UnsupportedError(
            f"{folder} has no chat template; put the one the model was trained with into "
            f"{path.name} there."
        )
    return found
