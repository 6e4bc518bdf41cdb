"""The chat record shared by every data script, and how it is written, read and rendered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).parent / "texts"
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Chat:
    """One conversation: alternating user and assistant turns, and perhaps a system prompt."""

    kind: str
    turns: tuple[str, ...]
    system: str = ""

    def messages(self) -> list[dict[str, str]]:
        """The conversation in the form of the OpenAI API."""
        roles = ("user", "assistant")
        turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(self.turns)]
        return ([{"role": "system", "content": self.system}] if self.system else []) + turns


def pieces(chat: Chat) -> Iterator[tuple[str, bool]]:
    """Rendered text of a chat in pieces, each with whether the model must learn to say it."""
    for message in chat.messages():
        yield f"<|im_start|>{message['role']}\n", False
        yield f"{message['content']}<|im_end|>", message["role"] == "assistant"
        yield "\n", False


def write(path: Path, chats: Iterable[Chat]) -> int:
    """Write chats as JSON lines and return their number."""
    count = 0
    with path.open("w", encoding="utf-8") as out:
        for chat in chats:
            record = {"kind": chat.kind, "turns": chat.turns, "system": chat.system}
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def read(path: Path) -> list[Chat]:
    """Read chats written by `write`."""
    with path.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [Chat(r["kind"], tuple(r["turns"]), r["system"]) for r in records]
