"""From a file of dialogues to windows of token ids, some of them held back for judging.

The dialogues pass through the model's own chat template and tokenizer, so what is measured is what
the model will see when it is served.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convert.errors import ConvertError
from convert.forward.chat import Chat, Message

_HELD = 8
"""Every eighth dialogue is held back."""

_ROLES = ("system", "user", "assistant")
_FORMS = (
    '{"messages": [{"role", "content"}]}, {"conversation": [{"system", "input", "output"}]} or '
    '{"prompt", "completion"}'
)


class CalibrationError(ConvertError):
    """Dialogues that cannot be used; the sentence names the file and, where it can, the line."""


@dataclass(frozen=True, slots=True)
class Held:
    """Dialogues that are held back, each from the first position on, as it is when it is served;
    behind its end the row is filled up. All of shape (dialogues, positions)."""

    tokens: Tensor
    real: Tensor
    """Which tokens are no filling."""
    answers: Tensor
    """Which tokens the assistant says."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a model is fitted to, of shape (windows, positions), and judged by."""

    used: Tensor
    """What the search looks at."""
    held: Held
    """What the result is judged by; no dialogue of it is in `used`."""
    dialogues: int
    sha256: str
    """Of the file."""


def read_calibration(path: Path, chat: Chat, *, samples: int, seqlen: int) -> Calibration:
    """Windows of `seqlen` tokens: at most `samples`, and an eighth as many held back.

    Raises:
        CalibrationError: the file is missing, a line is no dialogue, or there are too few.
    """
    used, held = _divided(path)
    return Calibration(
        used=windows((chat.tokens(d) for d in used), samples, seqlen),
        held=rows_of(held, chat, most=seqlen * max(1, samples // _HELD), seqlen=seqlen),
        dialogues=len(used) + len(held),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def used_dialogues(path: Path) -> list[list[Message]]:
    """The dialogues that are not held back."""
    return _divided(path)[0]


def held_dialogues(path: Path) -> list[list[Message]]:
    """The dialogues that are held back for judging.

    Raises:
        CalibrationError: as `read_calibration`.
    """
    return _divided(path)[1]


def _divided(path: Path) -> tuple[list[list[Message]], list[list[Message]]]:
    """Used and held back, always the same for the same file."""
    dialogues = read_dialogues(path)
    if len(dialogues) < 2:
        raise CalibrationError(
            f"{path} holds {len(dialogues)} dialogue; at least 2 are needed, and 100 are better."
        )
    random.Random(0).shuffle(dialogues)  # files are often sorted by subject
    used = [dialogue for i, dialogue in enumerate(dialogues) if i % _HELD]
    return used, dialogues[::_HELD]


def rows_of(dialogues: Iterable[list[Message]], chat: Chat, *, most: int, seqlen: int) -> Held:
    """Rows of at most `seqlen` tokens, and about `most` tokens in all."""
    rows: list[tuple[list[int], list[bool]]] = []
    longest = 0
    for dialogue in dialogues:
        rows.append((chat.tokens(dialogue)[:seqlen], chat.answers(dialogue)[:seqlen]))
        longest = max(longest, len(rows[-1][0]))
        if len(rows) * longest >= most:
            break
    tokens = torch.zeros(len(rows), longest, dtype=torch.int64)
    real, answers = torch.zeros_like(tokens).bool(), torch.zeros_like(tokens).bool()
    for i, (ids, said) in enumerate(rows):
        tokens[i, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        real[i, : len(ids)] = True
        answers[i, : len(ids)] = torch.tensor(said)
    return Held(tokens, real, answers)


def windows(texts: Iterable[list[int]], most: int, seqlen: int) -> Tensor:
    """Texts one after the other, cut into windows; what does not fill a window is left out, unless
    there is no other."""
    ids: list[int] = []
    for text in texts:
        ids += text
        if len(ids) >= most * seqlen:
            break
    count = min(most, len(ids) // seqlen)
    if count == 0:
        return torch.tensor([ids], dtype=torch.int64)
    return torch.tensor(ids[: count * seqlen], dtype=torch.int64).reshape(count, seqlen)


def read_dialogues(path: Path) -> list[list[Message]]:
    """Every line of a JSONL file as messages.

    Raises:
        CalibrationError: with the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # which Windows' editors begin with a mark
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path}: not UTF-8 text (byte {error.start}).") from error
    return [
        _dialogue(f"{path}:{number}", line)
        # not splitlines: JSON's strings may hold what else Unicode calls the end of a line
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]


def _dialogue(where: str, line: str) -> list[Message]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise CalibrationError(f"{where}: not JSON: {error}.") from error
    messages = list(_messages(found)) if isinstance(found, dict) else []
    if not messages:
        raise CalibrationError(f"{where}: no dialogue; a line is {_FORMS}.")
    for message in messages:
        if message["role"] not in _ROLES or not isinstance(message["content"], str):
            raise CalibrationError(
                f"{where}: a message of {message['role']!r} whose content is "
                f"{type(message['content']).__name__}; roles are {', '.join(_ROLES)} and "
                "content is text."
            )
    if not any(message["role"] == "assistant" for message in messages):
        raise CalibrationError(f"{where}: the assistant says nothing in this dialogue.")
    return messages


def _messages(found: dict[str, Any]) -> Iterator[Message]:
    """The messages of a line in any of the three forms; nothing where it is in none."""
    if isinstance(found.get("messages"), list):
        yield from _listed(found["messages"])
    elif isinstance(found.get("conversation"), list):
        yield from _xtuner(found["conversation"])
    elif "prompt" in found and "completion" in found:
        for role, key in (("user", "prompt"), ("assistant", "completion")):
            value = found[key]
            yield from _listed(value) if isinstance(value, list) else [_message(role, value)]


def _listed(messages: list[Any]) -> Iterator[Message]:
    for message in messages:
        found = message if isinstance(message, dict) else {}
        yield _message(found.get("role"), found.get("content"))


def _xtuner(turns: list[Any]) -> Iterator[Message]:
    for turn in turns:
        found = turn if isinstance(turn, dict) else {}
        if found.get("system"):
            yield _message("system", found["system"])
        yield _message("user", found.get("input"))
        yield _message("assistant", found.get("output"))


def _message(role: Any, content: Any) -> Message:
    return {"role": role, "content": content}
